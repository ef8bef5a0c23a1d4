"""A machine as a user writes it: ``[USER@]HOST[:PORT]``. `guests.access.connection` connects to it.

It is a separate module so that a command line can be checked without paramiko, whose import takes 0.1 s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from guests.errors import UsageError
from guests.words import shown

_DESTINATION = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]*)@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.%a-z]+)\]|(?P<host>[A-Za-z0-9_][A-Za-z0-9._-]*))(?::(?P<port>[0-9]+))?"
)


@dataclass(frozen=True, slots=True)
class Destination:
    """``[USER@]HOST[:PORT]`` as written; HOST may be an alias of the SSH configuration."""

    host: str
    user: str = ""
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@" * bool(self.user) + host + (f":{self.port}" if self.port else "")


def parse(text: str, option: str) -> Destination:
    """The destination that a user wrote for ``option``. Raises UsageError."""
    found = _DESTINATION.fullmatch(text)
    port = found and found["port"]
    if found is None or (port is not None and not 0 < int(port) < 65536):
        raise UsageError(f"{option} {shown(text)}: [USER@]HOST[:PORT] is expected, e.g. root@192.0.2.7 or root@vm:2222")
    return Destination(found["v6"] or found["host"], found["user"] or "", int(port) if port else None)
