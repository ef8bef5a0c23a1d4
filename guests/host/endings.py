"""How a process ended, in words, and whether another process ended it.

A program that crashes is killed by a signal that its own fault raised (SIGSEGV, SIGABRT, SIGBUS, ...). SIGKILL,
SIGTERM, SIGHUP, SIGINT and SIGQUIT are sent: by a person, by another program, or by the kernel when memory runs out.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from pathlib import Path

SENT = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT})
"""Signals that a crashing program does not raise itself."""

_TERMINATED = re.compile(r"terminating on signal (\d+)(?: from pid (\d+) \((.*?)\))?")
"""QEMU, which handles SIGTERM, SIGINT and SIGHUP and ends with status 0. Source: its system/runstate.c."""
_VMSTAT = Path("/proc/vmstat")
_CGROUP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def signal_name(number: int) -> str:
    """SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_words(log: Path, since: int) -> str:
    """The last line that a program wrote to its log after byte ``since``; a warning only if there is nothing else."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(since)
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        errors = [line for line in lines if "warning:" not in line]
        return (errors or lines or [""])[-1][:300]
    return ""


def how_ended(what: str, process: subprocess.Popen[bytes] | None, words: str) -> str:
    """One line: how the process of ``what`` ended, and its last words."""
    status = None if process is None else process.poll()
    if status is None:
        return f"{what} is running"
    how = f"was killed by {signal_name(-status)}" if status < 0 else f"ended with status {status}"
    return f"{what} {how}{': ' + words if words else ''}"


def sent_signal(status: int | None, words: str = "", *, by_shell: bool = False) -> str | None:
    """The signal with which another process ended it: its name, and the sender if known; else None.

    ``status`` is that of ``subprocess``, None while the process runs; ``words`` is the program's last output.
    With ``by_shell`` a status above 128 is a shell's report of a signal that ended its child.
    """
    if status is None:
        return None
    if (said := _TERMINATED.search(words)) is not None:
        sender = f" from process {said[2]} ({said[3]})" if said[2] else ""
        return signal_name(int(said[1])) + sender
    number = status - 128 if by_shell and status > 128 else -status
    return signal_name(number) if number in SENT else None


class OutOfMemory:
    """Counts the processes that the kernel's OOM killer has killed since this object was made."""

    def __init__(self) -> None:
        self._before = self._count()

    def kills(self) -> int:
        """Their number, on this host or, if only that is visible, in this process's control group."""
        return max(0, self._count() - self._before)

    @staticmethod
    def _count() -> int:
        """The counters together. Source: oom_kill in /proc/vmstat (proc(5)) and, for what a container sees, in
        memory.events (cgroup v2) or memory.oom_control (v1)."""
        files = [_VMSTAT]
        with contextlib.suppress(OSError):
            for line in _CGROUP.read_text().splitlines():
                number, controllers, path = line.split(":", 2)
                if number == "0":
                    files.append(_CGROUPS / path.strip("/") / "memory.events")
                elif controllers == "memory":
                    files.append(_CGROUPS / "memory" / path.strip("/") / "memory.oom_control")
        counted = 0
        for file in files:
            with contextlib.suppress(OSError, ValueError):
                words = [line.split() for line in file.read_text().splitlines()]
                counted += sum(int(word[1]) for word in words if word[:1] == ["oom_kill"])
        return counted


def interference(what: str, sent: str, memory: OutOfMemory | None = None) -> tuple[str, str]:
    """The message and the remedy for a process that another process ended, one line each."""
    if memory is not None and sent == "SIGKILL" and memory.kills():
        return (
            f"{what} was killed by SIGKILL: the kernel was out of memory",
            "free memory on this host, or run fewer workers (--jobs)",
        )
    return (
        f"{what} was ended by {sent}, which it does not send itself",
        "find the sender (see the kernel's log for out of memory), then run again",
    )
