"""Values as they cross the wire to the caller."""

from __future__ import annotations

import base64
import errno
import os
import signal
from typing import Any

from guests.agent.payload.state import OPENED


class Errno(int):
    """An error number of this platform, 0 for none. It crosses the wire by name: numbers differ between platforms."""


class Signal(int):
    """A signal's number on this platform, 0 or below for none. It crosses the wire by name, as errors do."""


def errno_name(number: int) -> str:
    """The name of an error number here; the number itself, as text, if it has none."""
    return errno.errorcode.get(number, str(number))


def encode(value: Any) -> Any:
    """A value as JSON: bytes become {"b64": ...}, error numbers {"errno": name}, signals {"signal": name}."""
    if isinstance(value, Errno):
        return {"errno": errno_name(value)} if value else 0
    if isinstance(value, Signal):
        return {"signal": signal.Signals(value).name} if value > 0 else int(value)
    if isinstance(value, (bytes, bytearray)):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [encode(v) for v in value]
    if isinstance(value, dict):
        return {k: encode(v) for k, v in value.items()}
    return value


def decode(value: Any) -> Any:
    """Decode an argument for the op. Raises OSError for the descriptor of an open that failed."""
    if isinstance(value, dict) and len(value) == 1 and "b64" in value:
        return base64.b64decode(value["b64"])
    if isinstance(value, dict) and len(value) == 1 and "fd" in value:
        if value["fd"] not in OPENED:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return OPENED[value["fd"]]
    if isinstance(value, list):
        return [decode(v) for v in value]
    return value
