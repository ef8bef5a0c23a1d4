"""Handling of SIGINT, SIGTERM and SIGHUP, for every command and every worker.

Rules:

* The first signal decides the exit status: 130 for SIGINT, 143 for SIGTERM, and for SIGHUP as for SIGTERM.
* The first signal interrupts the work: it raises `Interrupted` in the main thread, once. Further signals never raise,
  so they cannot interrupt the clean-up that the first has started.
* Before the work begins and after it has ended, there is nothing to clean up: a signal ends the process at once.
* A signal that arrives more than `PATIENCE` seconds after the first ends the process at once: the clean-up hangs.
  Guests die with the process that started them (see `guests.host.processes`).
* A signal that was ignored when the program started (a shell's background job, nohup) stays ignored.

Little is imported here, and nothing slow: `assay9.start` installs the handlers before anything else happens.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import time
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from types import FrameType

HANDLED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE: Final = 60.0
"""Seconds after the first signal in which further ones are only counted."""


class Interrupted(KeyboardInterrupt):
    """The first signal has arrived. A KeyboardInterrupt, because pytest, click and execnet know what that means."""


class _Phase(Enum):
    IDLE = "nothing to clean up: a signal ends the process at once"
    WORKING = "the first signal raises Interrupted"
    FINISHING = "results are being kept: a signal changes the exit status and nothing else"


class _State:
    """What has happened so far in this process."""

    def __init__(self) -> None:
        self.phase = _Phase.IDLE
        self.installed = self.quiet = self.raised = False
        self.first: signal.Signals | None = None
        self.at = 0.0
        """When the first signal arrived, in seconds of time.monotonic."""
        self.previous: dict[signal.Signals, Any] = {}
        self.children: list[subprocess.Popen[bytes]] = []


_state = _State()


def install(*, worker: bool = False) -> bool:
    """Install the handlers; returns whether this call did so (False: they were installed before).

    A `worker` is started with the signals blocked, and prints nothing on standard error: its parent does.
    """
    if _state.installed:
        return False
    for number in HANDLED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            _state.previous[number] = signal.signal(number, _handle)
    atexit.register(_ignore)
    _state.installed, _state.quiet = True, worker
    if worker:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    return True


def working() -> None:
    """From now on the first signal raises `Interrupted` in the main thread."""
    _state.phase = _Phase.WORKING


def finishing() -> None:
    """From now on a signal raises nothing: only ending guests and keeping results remain."""
    _state.phase = _Phase.FINISHING


def idle() -> None:
    """From now on there is nothing to clean up: a signal ends the process at once."""
    _state.phase = _Phase.IDLE


def received() -> signal.Signals | None:
    """The first signal that arrived; None if none did."""
    return _state.first


def check() -> None:
    """Raise `Interrupted` if a signal has arrived. For loops: library code may have swallowed the first exception."""
    if _state.first is not None and _state.phase is _Phase.WORKING:
        raise Interrupted(_state.first.name)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """The block runs to its end: a signal that arrives meanwhile raises `Interrupted` afterwards."""
    before, _state.phase = _state.phase, _Phase.FINISHING
    try:
        yield
    finally:
        _state.phase = before
    if not _state.raised:
        _state.raised = _state.first is not None
        check()


@contextlib.contextmanager
def borrowed() -> Iterator[None]:
    """After the block, signals act as before it: for a program that is called as a function and begins and ends its own
    work, such as pytest. Raises `Interrupted` at the end if a signal arrived meanwhile.
    """
    before = _state.phase
    try:
        yield
    finally:
        _state.phase = before
    check()


def pooled() -> None:
    """Call in a process that was forked to do tasks: a signal ends it at once, or interrupts its task."""
    _state.phase, _state.quiet, _state.raised, _state.first = _Phase.IDLE, True, False, None
    _state.children.clear()


@contextlib.contextmanager
def task() -> Iterator[None]:
    """The block is one task of a process that was forked to do tasks. A signal ends the process when the task has
    cleaned up."""
    working()
    try:
        yield
    finally:
        idle()
        if (status := exit_status()) is not None:
            os._exit(status)


def exit_status(number: signal.Signals | None = None) -> int | None:
    """The exit status for that signal, or for the first that arrived; None if none did."""
    number = number or _state.first
    return None if number is None else 130 if number is signal.SIGINT else 143


def pass_on_to(child: subprocess.Popen[bytes]) -> None:
    """Send this child each signal that arrives here from now on, so that it ends its own work."""
    _state.children.append(child)


def _handle(number: int, _frame: FrameType | None) -> None:
    seen = signal.Signals(number)
    if seen is signal.SIGHUP:
        _leave_terminal()
    again = _state.first is not None
    if not again:
        _state.first, _state.at = seen, time.monotonic()
    for child in _state.children:
        with contextlib.suppress(OSError):
            child.send_signal(signal.SIGTERM if seen is signal.SIGHUP else seen)
    if _state.phase is _Phase.IDLE or time.monotonic() - _state.at > PATIENCE:
        os._exit(exit_status() or 0)
    if again and not _state.quiet:
        _say("still stopping processes and writing results; after a minute, another signal ends it at once")
    if _state.phase is _Phase.WORKING and not _state.raised:
        _state.raised = True
        raise Interrupted(seen.name)


def _ignore() -> None:
    """Ignore signals: the exit status is final, and the interpreter is about to restore the default action, to kill."""
    for number in _state.previous:
        signal.signal(number, signal.SIG_IGN)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"assay9: {text}\n".encode())


def _leave_terminal() -> None:
    """The terminal is gone: writing to it would fail during the clean-up."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for descriptor in (0, 1, 2):
            if os.isatty(descriptor):
                os.dup2(nowhere, descriptor)
        os.close(nowhere)
