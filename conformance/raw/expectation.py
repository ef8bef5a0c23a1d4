"""The replies that a case allows for one request, and the finding for any other reply.

Rule of this module: an expectation is a set of errnos, never "some error"; `OK` stands for success, so the set shows
where the protocol leaves a choice. Whether a request is refused and with which errno are two questions: a refusal with
an errno outside the set is a lighter finding (`severity_of`). Pure: no link, no clock.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Set
from dataclasses import dataclass

from conformance.vocabulary import Severity, errno_name
from protocol.fields import Buffer, Qid
from protocol.messages import Rlerror
from protocol.registry import Message

OK = 0
"""In a set of allowed errnos: success is allowed as well."""

Expect = int | Collection[int] | None
"""None or OK: success. An errno, or a set of errnos of which OK may be one."""


class Choice(frozenset[int]):
    """Errnos among which the protocol leaves the choice, and which Linux passes to the caller unchanged.

    Another errno is reported as `varies`. If the errno matters to Linux or its programs, a case names it by a plain
    number or set: another one is then reported as `linux`.
    """

    def __or__(self, other: Set[int]) -> Choice:  # type: ignore[override]
        return Choice([*self, *other])

    def __ror__(self, other: Set[int]) -> Choice:
        return Choice([*self, *other])


_SUCCESS = frozenset({OK})
_SHOWN = 24


@dataclass(frozen=True, slots=True)
class Rerror:
    """An error reply of type 107, which 9P2000.L does not have (its own is Rlerror, type 7).

    `errno` is read from the forms met so far: four bytes (nfs-ganesha), a string and four bytes (9P2000.u).
    """

    tag: int
    errno: int
    ename: bytes

    type = 107


def allowed(expect: Expect) -> frozenset[int]:
    """The set that `expect` stands for."""
    if expect is None:
        return _SUCCESS
    if isinstance(expect, int):
        return frozenset({expect})
    return frozenset(expect)


def severity_of(expect: Expect) -> Severity:
    """The severity of a refusal with an errno outside `expect`, when the request had to be refused."""
    return "varies" if isinstance(expect, Choice) else "linux"


def names(errnos: Collection[int]) -> str:
    """`success, EINVAL or ENOENT`."""
    spelt = ["success" if number == OK else errno_name(number) for number in sorted(errnos)]
    if not spelt:
        return "nothing"
    return spelt[0] if len(spelt) == 1 else f"{', '.join(spelt[:-1])} or {spelt[-1]}"


def spell(message: Message | Rerror) -> str:
    """A message as a finding shows it: `Tlopen(fid=3, flags=0)`, long payloads shortened."""
    if isinstance(message, Rerror):
        said = f" {message.ename!r}" if message.ename else ""
        return f"Rerror[type 107]({errno_name(message.errno)}{said})"
    if isinstance(message, Rlerror):
        return f"Rlerror({errno_name(message.ecode)})"
    parts = [f"{field.name}={_value(getattr(message, field.name))}" for field in message.fields]
    return f"{type(message).__name__}({', '.join(parts)})"


def _value(value: object) -> str:
    if isinstance(value, Buffer):
        return _bytes(value)
    if isinstance(value, Qid):
        return f"qid({value.type:#x}, {value.version}, {value.path:#x})"
    if isinstance(value, tuple):
        return f"[{', '.join(hex(one.path) if isinstance(one, Qid) else _bytes(one) for one in value)}]"
    if isinstance(value, int) and value > 0xFFFF:
        return hex(value)
    return repr(value)


def _bytes(value: Buffer) -> str:
    if len(value) <= _SHOWN:
        return repr(bytes(value))
    return f"{bytes(value[:_SHOWN])!r}... ({len(value)} bytes)"


def hexed(frame: Buffer) -> str:
    """The first bytes of a frame, for findings about bytes that are not a message."""
    head = re.sub("(..)", r"\1 ", bytes(frame[:40]).hex()).strip()
    return head + (f" ... ({len(frame)} bytes)" if len(frame) > 40 else "")
