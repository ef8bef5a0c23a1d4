"""The serial console: a log that is watched for kernel errors, and a login for a guest whose SSH does not answer.

QEMU itself writes the log, so nothing is lost while it is not read, and a position in it is a point in time: ``mark``
before a case, ``since`` after it.
"""

from __future__ import annotations

import re
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pexpect
import pexpect.socket_pexpect

from guests.access.shell import Result
from guests.errors import InfrastructureError

Kind = Literal["panic", "oops", "bug", "warning", "hung-task", "lockup", "9p", "memory", "disk"]

DEADLY: frozenset[Kind] = frozenset({"panic", "oops", "bug", "lockup"})
"""After one of these the guest is not trusted: restore it."""

_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("panic", re.compile(r"Kernel panic - not syncing")),
    (
        "lockup",
        re.compile(r"BUG: soft lockup|hard LOCKUP|rcu: INFO: rcu_\w+ (self-)?detected|detected stalls? on CPU"),
    ),
    (
        "oops",
        re.compile(
            r"BUG: unable to handle|BUG: kernel NULL pointer|kernel BUG at|general protection fault"
            r"|Oops: |invalid opcode: |stack segment: |double fault: "
        ),
    ),
    ("bug", re.compile(r"\bBUG: |\bBUG\(\)|refcount_t: |list_(add|del) corruption|UBSAN: ")),
    ("hung-task", re.compile(r"INFO: task .+ blocked (for more than|in I/O wait)")),
    ("warning", re.compile(r"\bWARNING: ")),
    ("memory", re.compile(r"Out of memory: |oom-kill:|page allocation failure")),
    (
        "disk",
        re.compile(
            r"SQUASHFS error|EXT4-fs error|Remounting filesystem read-only|Buffer I/O error|I/O error, dev "
            r"|blk_update_request: .*error|attempt to access beyond end of device"
        ),
    ),
    ("9p", re.compile(r"\b9p(net)?(_virtio|_fd)?: |\bv9fs[: ]|\bp9_\w+: ")),
)
"""In order of precedence; texts from lib/, kernel/ and net/9p of Linux 5.10 to 6.12."""

_OWN = r"(?:vd|ubd|sd|hd)[ab]\b"
_OWN_DISK = re.compile(
    rf"SQUASHFS error.*|I/O error(?:, dev| on dev) {_OWN}.*|EXT4-fs error \(device {_OWN}\).*"
    rf"|EXT4-fs \({_OWN}\).*read-only.*"
    rf"|attempt to access beyond end of device\s+(?:\[ *[\d.]+\] *)?{_OWN}.*"
)
"""What the kernel says when one of a machine's own two disks fails: its root, and the control file system. A share has
no disk in the guest, and a case's loop devices have other names. Texts from fs/squashfs, fs/ext4 and block/blk-core.c.
"""

_TRACED_LOST = re.compile(
    r"userspace - (?:ptrace .*failed|wait failed|child stopped with signal).*|wait_stub_done : failed to wait.*"
)
"""What User-Mode Linux says when another process ends or stops one of its processes, which on this host are traced
children of its kernel; the guest's process gets SIGSEGV. Source: arch/um/os-Linux/skas/process.c of Linux 6.12.
"""

_HARMLESS = re.compile(
    r"Installing (v9fs|9P2000)|FS-Cache: |9p: Installing|WARNING: (CPU:\d+ )?PID: 0 .*tsc|Kernel command line"
)
"""Messages of a healthy boot."""

_LONG: frozenset[Kind] = frozenset({"panic", "oops", "bug", "warning", "hung-task", "lockup", "memory"})
"""Kinds whose message goes on over following lines (registers, call trace)."""

_END = re.compile(r"---\[ end |</TASK>|Rebooting in|Reboot failed")
_STAMP = re.compile(r"^\[ *(\d+\.\d+)\]")
_TRACE_LINES = 80
_TRACE_SECONDS = 1.0
"""A trace printed to a serial line under TCG takes some hundred milliseconds at most."""


@dataclass(frozen=True, slots=True)
class ConsoleEvent:
    """One complaint of the guest's kernel."""

    kind: Kind
    text: str
    """The message with its trace, lines separated by newlines."""
    offset: int
    """Byte position in the console log where it begins."""
    guest_seconds: float | None = None
    """The kernel's own time stamp: seconds since the guest booted."""

    @property
    def deadly(self) -> bool:
        """The guest should be restored before anything else runs in it."""
        return self.kind in DEADLY


def find_events(text: str, offset: int = 0) -> list[ConsoleEvent]:
    """The events in a piece of console log that begins at byte ``offset`` of it. Pure."""
    events: list[ConsoleEvent] = []
    lines = text.split("\n")
    positions = []
    for line in lines:
        positions.append(offset)
        offset += len(line.encode("utf-8", "surrogateescape")) + 1
    index = 0
    while index < len(lines):
        kind = _kind(lines[index])
        if kind is None:
            index += 1
            continue
        begin, stamp = index, _stamp(lines[index])
        index += 1
        while kind in _LONG and index < len(lines) and index - begin < _TRACE_LINES:
            later = _stamp(lines[index])
            if stamp is not None and later is not None and not 0 <= later - stamp <= _TRACE_SECONDS:
                break
            index += 1
            if _END.search(lines[index - 1]):
                break
        block = "\n".join(line.rstrip("\r") for line in lines[begin:index]).rstrip()
        events.append(ConsoleEvent(kind, block, positions[begin], stamp))
    return events


def _kind(line: str) -> Kind | None:
    if _HARMLESS.search(line):
        return None
    return next((kind for kind, pattern in _PATTERNS if pattern.search(line)), None)


def _stamp(line: str) -> float | None:
    found = _STAMP.match(line)
    return float(found.group(1)) if found else None


class ConsoleWatch:
    """Reads the console log that QEMU writes."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def mark(self) -> int:
        """The current end of the log, in bytes."""
        try:
            return self.log.stat().st_size
        except FileNotFoundError:
            return 0

    def text_since(self, mark: int) -> str:
        """Everything written after ``mark``; bytes that are not UTF-8 as surrogates."""
        try:
            with self.log.open("rb") as handle:
                handle.seek(mark)
                return handle.read().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return ""

    def own_disk_failure(self, mark: int) -> str | None:
        """The first complaint after ``mark`` about one of the machine's own disks, or None."""
        found = _OWN_DISK.search(self.text_since(mark))
        return None if found is None else " ".join(found[0].split())

    def traced_lost(self, mark: int) -> str | None:
        """The first message after ``mark`` that another process ended or stopped one of User-Mode Linux's, or None."""
        found = _TRACED_LOST.search(self.text_since(mark))
        return None if found is None else " ".join(found[0].split())

    def since(self, mark: int) -> list[ConsoleEvent]:
        """The kernel's errors written after ``mark``, oldest first."""
        return find_events(self.text_since(mark), mark)


class ConsoleLogin:
    """Root's shell on the serial console, driven with pexpect.

    Slow (a character takes its time under TCG) and shared with kernel messages: for diagnosis, not for cases.
    """

    def __init__(self, path: Path, limit: float = 20.0) -> None:
        """Connect to QEMU's console socket and wait up to ``limit`` seconds for a prompt."""
        self._failures = (pexpect.TIMEOUT, pexpect.EOF)
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise InfrastructureError(f"console socket {path}: {error.strerror}", "is it running?") from error
        self._line = pexpect.socket_pexpect.SocketSpawn(self._socket, timeout=limit)
        deadline = time.monotonic() + limit
        while True:
            # Interrupt whatever is on the line, then request a word that differs from the echo of the request.
            token = uuid.uuid4().hex[:8]
            self._line.send(f"\x03\rstty -echo; echo rea''dy-{token}\r")
            try:
                self._line.expect_exact(f"ready-{token}", timeout=min(5.0, limit))
                return
            except self._failures as error:
                if time.monotonic() > deadline:
                    self.close()
                    raise InfrastructureError(
                        f"no login on the console within {limit:.0f} s", "the guest hangs: restore it"
                    ) from error

    def run(self, command: str, timeout: float = 30.0) -> Result:
        """Run a shell command line. ``stdout`` has standard error, too, and kernel messages in between."""
        token = uuid.uuid4().hex[:8]
        self._line.send(f"echo be''gin-{token}; {{ {command}\n}} 2>&1; echo en''d-{token}-$?-\r")
        try:
            self._line.expect_exact(f"begin-{token}\r\n", timeout=timeout)
            self._line.expect(rf"end-{token}-(\d+)-".encode(), timeout=timeout)
        except self._failures as error:
            raise TimeoutError(f"console: {command} ran into its time limit") from error
        output: Any = self._line.before
        status: Any = self._line.match
        return Result(int(status.group(1)), output.decode("utf-8", "surrogateescape").replace("\r\n", "\n"), "")

    def close(self) -> None:
        """Leave the console; the shell there stays."""
        self._socket.close()
