"""Encodes and decodes values on the caller's side; `guests.agent.payload.wire` is the other end."""

from __future__ import annotations

import base64
import errno
import signal
from collections.abc import Callable
from typing import Any

from guests.errors import InfrastructureError

ALIASES = {"ENOATTR": "ENODATA"}
"""Names that other platforms have for what Linux names otherwise. Source: FreeBSD's sys/errno.h, "Attribute not
found"; xattr(7) has ENODATA for that."""


class CallAbsent(InfrastructureError):
    """The agent's platform does not have what the call needs; the text says what."""


class Partial(dict[str, Any]):
    """A result with fields that the platform does not have: using one raises, with the reason."""

    def __init__(self, values: dict[str, Any], why: str) -> None:
        super().__init__(values)
        self.why = why

    def __missing__(self, name: str) -> Any:
        raise CallAbsent(f"no {name}: {self.why}")


_NO_DESCRIPTOR = 10**6
"""More than any descriptor: used as one it is refused with EBADF."""


class Descriptor(int):
    """A descriptor by the number of the request that opens the file: a call can use it before that is answered."""

    opened: int | None = None
    """What open(2) gave, once that is known."""

    def __new__(cls, request: int, process: str, learn: Callable[[], None]) -> Descriptor:
        """`process` of the agent has it; `learn` waits until what open(2) gave is known."""
        made = super().__new__(cls, _NO_DESCRIPTOR + request)
        made.request, made.process, made.learn = request, process, learn
        return made

    request: int
    process: str
    learn: Callable[[], None]

    def __repr__(self) -> str:
        return f"descriptor of request {self.request}" if self.opened is None else str(self.opened)

    def __int__(self) -> int:
        if self.opened is None:
            self.learn()
        assert self.opened is not None
        return self.opened

    def __str__(self) -> str:
        return str(int(self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def errno_number(name: str) -> int:
    """The number on this host of an error named by another platform; a number in text is accepted, too.

    Raises ValueError for a name that this host does not have.
    """
    known = getattr(errno, ALIASES.get(name, name), None)
    return int(name) if known is None else int(known)


def encode(value: Any) -> Any:
    """Python values as the agent's JSON: bytes become {"b64": ...}, a file that is being opened {"fd": request}."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
    if isinstance(value, Descriptor):
        return {"fd": value.request} if value.opened is None else value.opened
    return value


def decode(value: Any) -> Any:
    """The reverse, through lists and dictionaries; names of errors and signals become numbers of this host."""
    if isinstance(value, dict):
        if len(value) == 1 and "b64" in value:
            return base64.b64decode(value["b64"])
        if len(value) == 1 and "errno" in value:
            return errno_number(value["errno"])
        if len(value) == 1 and "signal" in value:
            return int(signal.Signals[value["signal"]])
        values = {k: decode(v) for k, v in value.items()}
        if isinstance(values.get("absent"), str):
            return Partial(values, values.pop("absent"))
        return values
    if isinstance(value, list):
        return [decode(v) for v in value]
    return value


def as_declared(returns: str, value: Any) -> Any:
    """A decoded value of an op with the return annotation `returns`: JSON has lists instead of tuples."""
    if returns.startswith("tuple["):
        return tuple(value)
    if returns.startswith("list[tuple["):
        return [tuple(row) for row in value]
    return value
