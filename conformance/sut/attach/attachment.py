"""The user's description of an existing guest and share: in a TOML, on the command line, or both."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from conformance.errors import UsageError
from guests.access import destination
from guests.access.destination import Destination
from guests.words import did_you_mean, shown, unknown

Allowance = Literal["remount", "guest-pci"]
"""What could hurt a machine that is not the suite's, and is done only where --allow names it.

remount: unmount the suite's own mount of the share, and mount it again with other options.
guest-pci: take the share's device from the guest's kernel, for raw messages and rings, also such as no driver sends.
"""

CONTROL = "/var/tmp"
_REMOTE = re.compile(r"(?P<host>(?:[^/:@]+@)?(?:\[[^]]+\]|[^/:\[\]]+)):(?P<path>/.*)")

_NEARLY = re.compile(r"(?P<host>[^/:@]+@[^/:@]+)[:/](?P<path>[^/].*)")
"""The colon or the first slash is missing."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Where the exported directory is: a path of this host, or of another that SSH reaches."""

    path: str
    host: Destination | None = None

    def __str__(self) -> str:
        return f"{self.path} on {self.host}" if self.host else self.path


@dataclass(frozen=True, slots=True)
class Attachment:
    """A guest and a share that run already."""

    guest: Destination
    outside: Outside
    tag: str = ""
    """The mount tag; "" where the share is mounted already."""
    mounted: str = ""
    """Where the guest has it mounted; it is never unmounted then."""
    allow: frozenset[str] = frozenset()
    control: str = CONTROL
    """A directory on a native file system of the guest."""
    ssh_config: Path | None = None
    implementation: str = ""
    """What serves the share, in the user's words, for the record."""
    process: str = ""
    """A command that prints the id of the process that serves the share, on the host of the directory."""


def outside_of(text: str) -> Outside:
    """`PATH`, or `[USER@]HOST:PATH` as in scp. Raises UsageError."""
    if text.startswith("/"):
        return Outside(_absolute("--outside", text))
    found = _REMOTE.fullmatch(text)
    if found is None:
        near = _NEARLY.fullmatch(text)
        meant = f": did you mean {shown(near['host'] + ':/' + near['path'])}?" if near else ""
        raise UsageError(
            f"--outside {shown(text)}: give the absolute PATH of the exported directory, or [USER@]HOST:PATH{meant}"
        )
    return Outside(_absolute("--outside", found["path"]), destination.parse(found["host"], "--outside"))


def attachment(
    *,
    guest: str,
    outside: str,
    tag: str = "",
    mounted: str = "",
    allow: tuple[str, ...] = (),
    control: str = "",
    ssh_config: str = "",
    implementation: str = "",
    process: str = "",
) -> Attachment:
    """The description, checked. Raises UsageError for the first missing or wrong value."""
    if not guest:
        raise UsageError("--guest is missing: the guest to attach to, [USER@]HOST[:PORT], e.g. --guest root@192.0.2.7")
    if not outside:
        raise UsageError("--outside is missing: the exported directory as its host names it, PATH or [USER@]HOST:PATH")
    if bool(tag) == bool(mounted):
        raise UsageError(
            "--tag TAG says what the guest is to mount, --mounted DIR where it has the share mounted already: "
            f"give one of them{', not both' if tag else ''}"
        )
    words = [word for given in allow for word in given.split(",") if word]
    for word in words:
        if word not in get_args(Allowance):
            raise UsageError(f"--allow {unknown('word', word, get_args(Allowance))}")
    if mounted and words:
        raise UsageError(
            f"--allow {words[0]} means nothing with --mounted: a share that is mounted already stays mounted"
        )
    return Attachment(
        guest=destination.parse(guest, "--guest"),
        outside=outside_of(outside),
        tag=tag,
        mounted=_absolute("--mounted", mounted) if mounted else "",
        allow=frozenset(words),
        control=_absolute("--control-dir", control) if control else CONTROL,
        ssh_config=Path(ssh_config).expanduser() if ssh_config else None,
        implementation=implementation,
        process=process_of(process) if process else "",
    )


_WAYS = {"pidfile": "cat {}", "name": "pgrep -o -x {}", "command": "{}"}


def process_of(text: str) -> str:
    """The command for `pidfile:PATH`, `name:NAME` or `command:COMMAND`. Raises UsageError."""
    way, colon, value = text.partition(":")
    if not colon or not value or way not in _WAYS:
        near = did_you_mean(way, _WAYS) if colon and way not in _WAYS else ""
        raise UsageError(f"--process {shown(text)}: give pidfile:PATH, name:NAME or command:COMMAND{near}")
    return _WAYS[way].format(value if way == "command" else shlex.quote(value))


def _absolute(option: str, path: str) -> str:
    if not path.startswith("/") or "\n" in path:
        raise UsageError(f"{option} {shown(path)}: give an absolute path")
    return path.rstrip("/") or "/"
