"""Faults of any server, as rules: which message, and how it is changed.

A rule names one message (`on`). It can change fields of a request, drop it, send it twice, delay it behind later ones,
answer it instead of the server, or hang up. It can do the same with a reply, shorten or extend it, or repeat the first
one of its kind. Rule of this module: a rule knows messages, not connections.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from conformance.selftest.link import HangUp, Hold
from conformance.tables import Strict, word
from protocol import constants
from protocol.codec import frame
from protocol.dirents import decode_dirents, encode_dirent
from protocol.fields import Qid
from protocol.messages import BY_NAME, reply_of
from protocol.registry import Message

Value = int | str
Action = Literal["change", "drop", "repeat", "hold", "answer", "hang-up", "stale", "resize", "retype"]
_INTEGER: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda seen, by: seen + by,
    "-": lambda seen, by: seen - by,
    "&": lambda seen, by: seen & by,
    "|": lambda seen, by: seen | by,
    "^": lambda seen, by: seen ^ by,
}


class Rule(Strict):
    """One rule of a fault."""

    on: Annotated[str, word("message", BY_NAME)]
    """The message: Tlopen, Rread."""
    do: Action = "change"
    when: Mapping[str, Value] = Field(default_factory=dict)
    """Fields of that message that decide: a number, `& BITS` (one of them is set), `! BITS` (none is), `> NUMBER`, `= `
    and a text, `~ ` and a regular expression for a name or data; of data `> NUMBER` is the length."""
    of: Mapping[str, Value] = Field(default_factory=dict)
    """For a reply: what must be so of its request, in the same way."""
    first: int = Field(1, ge=1)
    """The first of the messages that fit, counted on each connection."""
    last: int = Field(1 << 62, ge=1)
    after: Annotated[str, word("message", BY_NAME)] | None = None
    """Only once this request has crossed, for the same value of the field `same`."""
    same: str = "fid"
    set: Mapping[str, Value] = Field(default_factory=dict)
    """Fields to change: a number, or an operation on the one there: `+ 1`, `& 0o777`; of names and data `[:500]`,
    `without 500` (a byte), `+text`, `=text`; of qids `path`, `version` and `type` below the field: `wqids.path`; of
    Rreaddir `entries`: `lose` (the last but one), `type NUMBER`."""
    reply: Annotated[str, word("message", BY_NAME)] | None = None
    """The answer; without it the request's own. Its fields are those of the request of the same name, else zero."""
    behind: int = Field(1, ge=1)
    """How many others go before one that is held."""
    size: int = Field(0, ge=0)
    """Bytes that one is cut to, or filled with zeros to; its size field says the same."""
    type: int = Field(0, ge=0, le=255)
    """The number of the message's type in its place."""
    make: str = ""
    """A path relative to the exported directory that the fault makes on the host; a directory where it ends in /."""


class Rules:
    """The rules of one fault on one connection. See `conformance.selftest.link.Fault`."""

    def __init__(self, rules: tuple[Rule, ...], export: Path | None) -> None:
        self._rules, self._export = rules, export
        self._met = [0] * len(rules)
        self._first: dict[tuple[int, Any], Message] = {}
        self._crossed: set[tuple[str, Any]] = set()

    def on_request(self, request: Message) -> tuple[list[Message], list[bytes]]:
        """See Fault."""
        number = self._fitting(request, request)
        for one in self._rules:
            if one.after == type(request).__name__:
                self._crossed.add((one.after, getattr(request, one.same)))
        if number is None:
            return [request], []
        rule = self._rules[number]
        self._make(rule)
        if rule.do == "drop":
            return [], []
        if rule.do == "answer":
            return [], [frame(_answer(rule, request))]
        if rule.do == "hang-up":
            raise HangUp
        changed = _changed(request, rule.set)
        if rule.do == "hold":
            raise Hold(changed, rule.behind)
        return [changed, changed] if rule.do == "repeat" else [changed], []

    def on_reply(self, request: Message, reply: Message) -> list[bytes]:
        """See Fault."""
        number = self._fitting(reply, request)
        if number is None:
            return [frame(reply)]
        rule = self._rules[number]
        self._make(rule)
        if rule.do == "drop":
            return []
        if rule.do == "hang-up":
            raise HangUp
        if rule.do == "stale":
            kept = self._first.setdefault((number, getattr(request, rule.same, 0)), _owned(reply))
            return [frame(replace(kept, tag=reply.tag))]
        changed = _answer(rule, request) if rule.do == "answer" else _changed(reply, rule.set)
        if rule.do == "hold":
            raise Hold(_owned(changed), rule.behind)
        raw = frame(changed)
        if rule.do == "resize":
            raw = rule.size.to_bytes(4, "little") + raw[4 : rule.size].ljust(rule.size - 4, b"\0")
        if rule.do == "retype":
            raw = raw[:4] + bytes([rule.type]) + raw[5:]
        return [raw, raw] if rule.do == "repeat" else [raw]

    def _fitting(self, message: Message, request: Message) -> int | None:
        """The number of the first rule that applies."""
        for number, rule in enumerate(self._rules):
            if rule.on != type(message).__name__ or not _holds(rule.when, message):
                continue
            if rule.of and not _holds(rule.of, request):
                continue
            if rule.after and (rule.after, getattr(request, rule.same)) not in self._crossed:
                continue
            self._met[number] += 1
            if rule.first <= self._met[number] <= rule.last:
                return number
        return None

    def _make(self, rule: Rule) -> None:
        if rule.make and self._export is not None:
            path = self._export / rule.make
            if rule.make.endswith("/"):
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(b"")


def _number(text: str) -> int:
    """A number as Python or `protocol.constants` spells it."""
    text = text.strip()
    return int(getattr(constants, text)) if text.isidentifier() else int(text, 0)


def _holds(wanted: Mapping[str, Value], message: Message) -> bool:
    return all(_field_holds(getattr(message, field, None), value) for field, value in wanted.items())


def _field_holds(seen: Any, wanted: Value) -> bool:
    if seen is None:
        return False
    if isinstance(wanted, int):
        return bool(seen == wanted)
    data = None if isinstance(seen, int) else bytes(seen)
    number = seen if data is None else len(data)
    sign, text = wanted[:1], wanted[1:].strip()
    if sign == ">":
        return bool(number > _number(text))
    if data is not None:
        return data == text.encode() if sign == "=" else bool(re.search(text.encode(), data))
    return bool(seen & _number(text)) if sign == "&" else not seen & _number(text)


def _changed(message: Message, set: Mapping[str, Value]) -> Message:
    """The message with those fields changed."""
    for path, value in set.items():
        field, _, part = path.partition(".")
        if field == "entries":
            message = replace(message, data=_entries(message, str(value)))  # type: ignore[call-arg]
            continue
        seen = getattr(message, field)
        if not part:
            made = _value(seen, value)
        elif isinstance(seen, Qid):
            made = _of_qid(seen, part, value)
        else:
            made = tuple(_of_qid(one, part, value) for one in seen)
        message = replace(message, **{field: made})
    return message


def _of_qid(qid: Qid, part: str, value: Value) -> Qid:
    return qid._replace(**{part: _value(getattr(qid, part), value)})


def _value(seen: Any, value: Value) -> Any:
    if isinstance(value, int):
        return value
    if isinstance(seen, int):
        return _INTEGER[value[0]](seen, _number(value[1:])) if value[0] in _INTEGER else _number(value)
    data = bytes(seen)
    if value.startswith("[:"):
        return data[: int(value[2:-1])]
    if value.startswith("without "):
        at = int(value.removeprefix("without "))
        return data[:at] + data[at + 1 :]
    text = value[1:].encode()
    return data + text if value[0] == "+" else text


def _entries(message: Message, how: str) -> bytes:
    entries = list(decode_dirents(bytes(getattr(message, "data"))))  # noqa: B009 - of Rreaddir alone
    if how == "lose":
        if len(entries) > 2:
            entries[-2:] = [entries[-2]._replace(offset=entries[-1].offset)]
    else:
        entries = [one._replace(type=_number(how.removeprefix("type "))) for one in entries]
    return b"".join(encode_dirent(*one) for one in entries)


def _answer(rule: Rule, request: Message) -> Message:
    kind = BY_NAME[rule.reply] if rule.reply else reply_of(type(request))
    zero: Mapping[str, Any] = {"qid": Qid(0, 0, 0), "wqids": (), "data": b"", "version": b"", "target": b""}
    fields = {one.name: getattr(request, one.name, zero.get(one.name, 0)) for one in kind.fields}
    return _changed(kind(tag=request.tag, **fields), rule.set)


def _owned(message: Message) -> Message:
    """The message with its own data, not a view of a buffer that is reused."""
    for one in message.fields:
        if isinstance(seen := getattr(message, one.name), memoryview):
            owned: Any = {one.name: bytes(seen)}
            message = replace(message, **owned)
    return message
