"""Encodes and decodes values on the caller's side; `guests.agent.payload.wire` is the other end."""

from __future__ import annotations

import base64
import errno
import signal
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


def errno_number(name: str) -> int:
    """The number on this host of an error named by another platform; a number in text is accepted, too.

    Raises ValueError for a name that this host does not have.
    """
    known = getattr(errno, ALIASES.get(name, name), None)
    return int(name) if known is None else int(known)


def encode(value: Any) -> Any:
    """Python values as the agent's JSON: bytes become {"b64": ...}."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [encode(v) for v in value]
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
