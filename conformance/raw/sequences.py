"""Plays random requests on a session against a model; independent requests are in flight together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from conformance.checks import judged
from conformance.errors import Finding
from conformance.model.protocol import ROOT, Ask, Expected, Protocol, State, listing, together
from conformance.raw.client import Pending
from conformance.raw.expectation import OK
from conformance.raw.wire import Session
from conformance.vocabulary import errno_name
from protocol.constants import AT_REMOVEDIR, O_EXCL, O_RDWR, QTDIR
from protocol.dirents import decode_dirents

_FIRST = 900
"""The model's fid 0: far from those that a case uses by itself, and below what nfs-ganesha takes at most, 1023."""
_SHRINKING = 200
_MESSAGES = {"unlink": "Tunlinkat"}
"""Requests that are left out where the server does not implement them."""


class Requests:
    """Plays requests; each sequence begins in its own directory, with only that directory's fid."""

    def __init__(self, client: Session, width: int) -> None:
        """`width`: the maximal number of requests in flight together."""
        self._client, self._width = client, width
        self._round = 0
        self.met: Counter[tuple[str, State]] = Counter()
        """Requests that were judged: operation, and state of the fid."""

    def search(self, sequences: Sequence[Sequence[Ask]]) -> Finding | None:
        """Play them until one fails: a finding with its shortest part that fails."""
        for whole in sequences:
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
        played: list[Ask] = []
        wrong: Finding | None = None
        absent = {op for op, message in _MESSAGES.items() if message in client.missing}
        for group in together(model, [ask for ask in asks if ask.op not in absent], self._width):
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
        for number in [*sorted(model.fids), *(range(1, 7) if wrong is not None else ())]:
            client.clunk.send(base + number).errno()
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
        }
        return ways[ask.op]()


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


def _holds(expected: Expected, number: int, seen: object) -> bool:
    if number != OK:
        return expected.refused
    return expected.succeeds and (expected.value is None or expected.value == seen)


def _finding(
    ask: Ask, state: State, expected: Expected, number: int, seen: object, played: Sequence[Ask], flying: int
) -> Finding:
    ended = errno_name(number) if number != OK else "success" if seen is None else f"success with {seen!r:.80}"
    beside = f", {flying - 1} others in flight" if flying > 1 else ""
    text = f"{ask} of a fid that is {state}{beside} ended with {ended}, allowed is {expected}, after\n{listing(played)}"
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
