"""Plays random requests on a session against a model; independent requests are in flight together."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from conformance.checks import judged
from conformance.errors import Finding
from conformance.model.protocol import (
    FIDS,
    FIDS_ASIDE,
    FIELD_BITS,
    NAMES,
    OTHER,
    ROOT,
    Ask,
    Expected,
    Protocol,
    State,
    listing,
    together,
)
from conformance.raw.client import Pending
from conformance.raw.expectation import OK, spell
from conformance.raw.wire import Session
from conformance.vocabulary import errno_name
from protocol import constants as c
from protocol.constants import AT_REMOVEDIR, O_EXCL, O_RDWR, QTDIR
from protocol.dirents import decode_dirents
from protocol.fields import Field, Kind
from protocol.messages import BY_NAME
from protocol.registry import Message

_FIRST = 900
"""The model's fid 0: far from those that a case uses by itself, and below what nfs-ganesha takes at most, 1023."""
_ASIDE = 950
"""The first fid of the requests that the model does not predict; it is their directory."""
_SHRINKING = 200
_WIDTHS = {Kind.U8: 8, Kind.U16: 16, Kind.U32: 32, Kind.U64: 64}
_NUMBERS = (0, 0, 1, 2, 3, 5, 4096, 65536, 1 << 31, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
_FLAGS = (c.O_WRONLY, c.O_RDWR, c.O_CREAT, c.O_EXCL, c.O_TRUNC, c.O_APPEND, c.O_DIRECTORY, c.O_NOFOLLOW, c.O_SYNC)
_MODES = (0o644, 0o755, 0o1777, 0o4711, 0, *(kind | 0o640 for kind in (c.S_IFREG, c.S_IFIFO, c.S_IFSOCK, c.S_IFCHR)))
_BYTES = (*NAMES, *NAMES, b"", b".", b"..", b"a/b", b"n" * 256, b"user.a", b"user.b", b"trusted.c", b"x" * 5000)
_BY_FIELD: Mapping[str, Sequence[int]] = {
    "mode": _MODES,
    "valid": range(1 << 9),
    "request_mask": (0, c.GETATTR_ALL, 1, 0x7FF),
    "locktype": range(4),
    "oldtag": (c.NOTAG, 1, 2),
    "n_uname": (0, 1000, (1 << 32) - 1),
    "afid": (c.NOFID, _ASIDE + 1),
    "uid": (0, 1000),
    "gid": (0, 1000),
    "major": (0, 1, 300),
    "minor": (0, 3, 300),
}
_OWN_FLAGS: Mapping[str, Sequence[int]] = {
    "Tunlinkat": (0, AT_REMOVEDIR, 1),
    "Txattrcreate": (0, 1, 2, 4),
    "Tlock": (0, 0, 2),  # a lock that waits would cost seconds
}
"""`flags` of requests other than those that open."""
_MESSAGES = {"unlink": "Tunlinkat"}
"""Requests that are left out where the server does not implement them."""


class Requests:
    """Plays requests; each sequence begins in its own directory, with only that directory's fid."""

    def __init__(self, client: Session, width: int, after: Callable[[Sequence[Ask]], None] | None = None) -> None:
        """`width`: the maximal number of requests in flight together. `after` is called with those that were played so
        far in a sequence, whenever none is in flight.
        """
        self._client, self._width, self._after = client, width, after
        self._round = 0
        self.met: Counter[tuple[str, State]] = Counter()
        """Requests that were judged: operation, and state of the fid."""

    def search(self, sequences: Sequence[Sequence[Ask]]) -> Finding | None:
        """Play them until one fails: a finding with its shortest part that fails."""
        return next((found for one in sequences if (found := self.judged(one)) is not None), None)

    def judged(self, whole: Sequence[Ask]) -> Finding | None:
        """Play one of them: if it fails, a finding with its shortest part that fails."""
        found = self._failure(whole)
        if found is not None:
            short = shortest(list(whole), lambda part: self._failure(part) is not None, _SHRINKING)
            return self._failure(short) or found
        return None

    def _failure(self, asks: Sequence[Ask]) -> Finding | None:
        try:
            self.play(asks)
        except Finding as finding:
            if finding.code in ("no-reply", "hung-up", "died"):
                raise
            return finding
        return None

    def play(self, asks: Sequence[Ask]) -> None:
        """Play one sequence. Raises Finding for the first outcome that is not allowed."""
        client, model = self._client, Protocol()
        self._round += 1
        name = b"sequence-%d" % self._round
        client.mkdir(client.root, name)
        base = _FIRST
        client.walk(client.root, base + ROOT, name)
        aside = any(ask.op == OTHER for ask in asks)
        if aside:
            client.mkdir(client.root, b"aside-%d" % self._round)
            client.walk(client.root, _ASIDE, b"aside-%d" % self._round)
        played: list[Ask] = []
        wrong: Finding | None = None
        unknown = {(message.encode(),) for message in client.missing}
        absent = {op for op, message in _MESSAGES.items() if message in client.missing}
        wanted = [ask for ask in asks if ask.op not in absent and ask.names[:1] not in unknown]
        for group in together(model, wanted, self._width):
            sent = [(ask, state, expected, self._send(ask, base)) for ask, state, expected in group]
            for ask, state, expected, pending in sent:
                judged()
                self.met[ask.op, state] += 1
                played.append(ask)
                reply = pending.wait()
                number = client.errno_of(reply)
                seen = _value(ask, reply, client, base) if number == OK else None
                if wrong is None and not _holds(expected, number, seen):
                    wrong = _finding(ask, state, expected, number, seen, played, len(group))
            if wrong is not None:
                break
            if self._after is not None:
                self._after(played)
        for number in sorted({*model.fids, *(range(1, FIDS + 1) if wrong is not None or aside else ())}):
            client.clunk.send(base + number).errno()
        for number in range(_ASIDE, _ASIDE + FIDS_ASIDE if aside else _ASIDE):
            client.clunk.send(number).errno()
        if wrong is not None:
            raise wrong

    def _send(self, ask: Ask, base: int) -> Pending[Any]:
        client, fid = self._client, base + ask.fid
        name = ask.names[0] if ask.names else b""
        ways: dict[str, Callable[[], Pending[Any]]] = {
            "walk": lambda: client.walk.send(fid, base + ask.newfid, *ask.names),
            "lopen": lambda: client.lopen.send(fid, ask.number),
            "lcreate": lambda: client.lcreate.send(fid, name, O_RDWR | O_EXCL),
            "mkdir": lambda: client.mkdir.send(fid, name),
            "read": lambda: client.read.send(fid, ask.number, 4096),
            "write": lambda: client.write.send(fid, ask.number, ask.data),
            "getattr": lambda: client.getattr.send(fid),
            "clunk": lambda: client.clunk.send(fid),
            "remove": lambda: client.remove.send(fid),
            "unlink": lambda: client.unlinkat.send(fid, name, AT_REMOVEDIR if ask.number else 0),
            "readdir": lambda: client.readdir.send(fid, 0, 4096),
            OTHER: lambda: client.send(any_request(name.decode(), ask.number, client.tag())),
        }
        return ways[ask.op]()


def any_request(name: str, number: int, tag: int) -> Message:
    """The request of that name, with fields that `number` chooses, 16 bits each: mostly such as have a meaning."""
    kind = BY_NAME[name]
    parts = [number >> FIELD_BITS * at & ((1 << FIELD_BITS) - 1) for at in range(len(kind.fields))]
    return kind(tag=tag, **{one.name: _field(parts[at], name, one) for at, one in enumerate(kind.fields)})


def _field(part: int, name: str, field: Field) -> object:
    if field.name in ("fid", "newfid", "dfid", "olddirfid", "newdirfid", "dirfd"):
        return _ASIDE + part % FIDS_ASIDE
    chance = random.Random(part)
    if field.kind is Kind.STRINGS:
        # not "..", by which a request would reach what is the model's
        return tuple(chance.choice(NAMES) for _ in range(chance.randrange(3)))
    if field.kind in (Kind.STRING, Kind.DATA):
        return chance.choice(_BYTES)
    if field.name == "flags":
        opening = sum(flag for flag in _FLAGS if chance.random() < 0.2)
        return chance.choice(_OWN_FLAGS[name]) if name in _OWN_FLAGS else opening
    return chance.choice(_BY_FIELD.get(field.name, _NUMBERS)) & ((1 << _WIDTHS[field.kind]) - 1)


def _value(ask: Ask, reply: Any, client: Session, base: int) -> object:
    """The part of a reply that the model predicts."""
    if ask.op == "walk":
        return len(reply.wqids)
    if ask.op == "read":
        return bytes(reply.data)
    if ask.op == "write":
        return reply.count
    if ask.op == "getattr":
        return ("directory",) if reply.qid.type & QTDIR else ("file", reply.size)
    if ask.op == "readdir":
        return frozenset(one.name for one in decode_dirents(bytes(reply.data))) - {b".", b".."}
    return None


def _shown(ask: Ask) -> str:
    return spell(any_request(ask.names[0].decode(), ask.number, 0)) if ask.op == OTHER else str(ask)


def _holds(expected: Expected, number: int, seen: object) -> bool:
    if number != OK:
        return expected.refused
    return expected.succeeds and (expected.value is None or expected.value == seen)


def _finding(
    ask: Ask, state: State, expected: Expected, number: int, seen: object, played: Sequence[Ask], flying: int
) -> Finding:
    ended = errno_name(number) if number != OK else "success" if seen is None else f"success with {seen!r:.80}"
    beside = f", {flying - 1} others in flight" if flying > 1 else ""
    text = f"{ask} of a fid that is {state}{beside} ended with {ended}, allowed is {expected}"
    text += f", after\n{listing(map(_shown, played))}"
    values = {"call": ask.op, "what": f"{ask.op} of a fid that is {state}", "seen": ended, "expected": str(expected)}
    return Finding(text, "errno" if number != OK or not expected.succeeds else "value", values)


def shortest(asks: list[Ask], fails: Callable[[Sequence[Ask]], bool], runs: int) -> list[Ask]:
    """A part of them, in their order, that still fails; `fails` is called at most `runs` times."""
    size = max(len(asks) // 2, 1)
    while size:
        at = 0
        while at < len(asks) and runs:
            part = [*asks[:at], *asks[at + size :]]
            runs -= 1
            if fails(part):
                asks = part
            else:
                at += size
        size = size // 2 if runs else 0
    return asks
