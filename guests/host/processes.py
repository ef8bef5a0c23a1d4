"""Processes that must not outlive the run, even when ``kill -9`` ends the run.

Two safeguards: the child asks the kernel to be killed when its parent dies (PR_SET_PDEATHSIG, through setpriv), and a
state file names pid *and start time* of each machine, so the next run can end what is left. A pid alone proves nothing:
another process may have it by now.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from guests.host import paths
from guests.host.files import remove_tree
from guests.host.waiting import happens

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_DEATH = 5.0
"""Seconds that killed processes are waited for."""


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state (field 3) on; empty if there is no such process. Source: proc(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has used, to a tick of the kernel's clock; 0 if there is none."""
    fields = stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


class Scheduled(NamedTuple):
    """How the kernel scheduled a process, in seconds summed over its threads. Source: proc(5), schedstat."""

    ran: float
    waited: float
    """Ready to run, while other processes had the processors."""


def scheduled(pid: int) -> Scheduled:
    """How long the threads of ``pid`` ran and waited until now; zero if there is no such process."""
    ran = waited = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            fields = thread.read_text(encoding="ascii").split()
            ran, waited = ran + int(fields[0]), waited + int(fields[1])
    return Scheduled(ran / 1e9, waited / 1e9)


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which ``pid`` started, or None."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields and fields[0] != "Z" else None


def exiting(pid: int) -> bool:
    """Whether ``pid`` is exiting or waits to be reaped. Source: PF_EXITING of linux/sched.h."""
    fields = stat_fields(pid)
    return not fields or fields[0] in "ZX" or bool(int(fields[6]) & 0x4)


def stopped(what: str, pid: int) -> tuple[str, str] | None:
    """The message and the remedy where the process of ``what``, or a descendant of it, is stopped by a signal.

    A process that is traced has another state. Source: proc(5).
    """
    try:
        tree = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return None
    for one in tree:
        if stat_fields(one)[:1] == ["T"]:
            return f"{what} is stopped: process {one} got SIGSTOP", f"find the sender; kill -CONT {one} continues it"
    return None


def reap(process: subprocess.Popen[bytes], limit: float = 60.0) -> int | None:
    """The status of a child that has ended or is about to, even if its sockets are closed; None while it runs."""
    if process.poll() is None and exiting(process.pid):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(limit)
    return process.poll()


def boot_id() -> str:
    """An id of this boot: start times of an earlier boot mean nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Running:
    """A state file: one machine, the run that owns it, and what to remove when both are gone."""

    name: str
    owner_pid: int
    owner_start: int
    boot: str
    temporary: tuple[str, ...]
    """Directories to remove with the machine."""
    pid: int = 0
    start: int = 0
    keep: bool = False
    """Meant to outlive its owner."""
    image: str = ""
    ssh_port: int = 0
    key: str = ""
    known_host: str = ""
    console_socket: str = ""
    console_log: str = ""

    @property
    def file(self) -> Path:
        return paths.running_dir() / f"{self.name}.json"

    @property
    def alive(self) -> bool:
        """The machine's process exists, and is still the same process."""
        return bool(self.pid) and self.boot == boot_id() and start_time(self.pid) == self.start

    @property
    def owned(self) -> bool:
        """The run that started the machine still exists."""
        return self.boot == boot_id() and start_time(self.owner_pid) == self.owner_start

    def write(self) -> None:
        """Write the state file atomically."""
        temporary = self.file.with_suffix(f".tmp{os.getpid()}")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        temporary.rename(self.file)

    def with_process(self, pid: int) -> Running:
        """A copy with the machine's process filled in."""
        return replace(self, pid=pid, start=start_time(pid) or 0)


def claim(name: str, temporary: tuple[Path, ...], keep: bool) -> Running:
    """A state file for a machine that this process is about to start."""
    me = os.getpid()
    state = Running(
        name=name,
        owner_pid=me,
        owner_start=start_time(me) or 0,
        boot=boot_id(),
        temporary=tuple(str(path.absolute()) for path in temporary),
        keep=keep,
    )
    state.write()
    return state


@contextlib.contextmanager
def claimed(*directories: Path) -> Iterator[None]:
    """Remove ``directories``, which the caller makes within the block, at its end or, after a kill, in the next run."""
    state = claim(f"d-{secrets.token_hex(6)}", directories, keep=False)
    try:
        yield
    finally:
        for directory in directories:
            remove_tree(directory)
        state.file.unlink(missing_ok=True)


def read_states() -> list[Running]:
    """All state files that can be read; a damaged one is removed."""
    states = []
    for file in sorted(paths.running_dir().glob("*.json")):
        try:
            states.append(_read(file))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            file.unlink(missing_ok=True)
    return states


def _read(file: Path) -> Running:
    """The state in a file. Raises for a damaged one, because the files that it names are removed and must be ours."""
    loaded = json.loads(file.read_bytes())
    state = Running(**{**loaded, "temporary": tuple(loaded["temporary"])})
    typed = all(type(getattr(state, one.name)).__name__ == str(one.type).partition("[")[0] for one in fields(state))
    ours = all(isinstance(path, str) and path.startswith("/") and "\0" not in path for path in state.temporary)
    if not typed or not ours or state.name != file.stem:
        raise ValueError(f"{file} is damaged")
    return state


def clean_left_over(also_kept: bool = False) -> list[str]:
    """End machines whose run is gone and remove their files; returns one line for each action.

    ``also_kept`` ends kept machines as well. Only processes in our own state files, with the recorded start time, are
    ended.
    """
    reported: list[str] = []
    for state in read_states():
        if state.keep and state.alive:
            if not also_kept:
                continue
        elif state.owned:
            continue
        if state.alive:
            end_tree(state.pid, state.start)
            reported.append(f"ended machine {state.name} (pid {state.pid}), left by an earlier run")
        for directory in state.temporary:
            if Path(directory).exists():
                remove_tree(Path(directory))
                reported.append(f"removed {directory}, left by an earlier run")
        state.file.unlink(missing_ok=True)
    return reported


def dying_with_parent(argv: list[str], by: signal.Signals = signal.SIGKILL) -> list[str]:
    """``argv`` under setpriv, so that the kernel sends it that signal when the thread that starts it ends."""
    return ["setpriv", "--pdeathsig", by.name.removeprefix("SIG"), "--", *argv]


def piped(argv: list[str], **more: Any) -> subprocess.Popen[Any]:
    """Start a command that ends with this process, in its own session; one pipe has its output and errors.

    `more`: see subprocess.Popen. Raises OSError.
    """
    return subprocess.Popen(
        dying_with_parent(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        **more,
    )


def each_line(argv: list[str], limit: float, take: Callable[[str], None], **where: Any) -> int:
    """Run a command that ends with this process, or after `limit` seconds; returns its exit status.

    `take` gets each line of its output and errors, with its newline. `where`: cwd and env, see subprocess.Popen.
    """
    with piped(argv, text=True, errors="replace", **where) as process:
        timer = threading.Timer(limit, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                take(line)
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
    return process.returncode


def end_with_parent(number: signal.Signals = signal.SIGTERM, parent: int | None = None) -> None:
    """Have the kernel send that signal to this process when its parent dies (Linux; prctl(2)).

    ``parent`` is the parent's id, which may already have died; by default it is queried now.
    """
    parent = os.getppid() if parent is None else parent
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above
        os.kill(os.getpid(), number)


def end(process: subprocess.Popen[bytes], patience: float = 2.0) -> None:
    """SIGTERM, then SIGKILL after ``patience`` seconds; reaps."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def end_session(leader: int) -> int:
    """SIGKILL what is left of the session of a child that was started in one of its own, and has ended: how many.

    A process that it killed may still exist after 5 s: the kernel has not ended it.
    """
    killed: set[int] = set()

    def ended() -> bool:
        left = [pid for pid in psutil.pids() if pid != leader and start_time(pid) and _session(pid) == leader]
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed.update(left)
        return not left

    happens(ended, _DEATH)
    return len(killed)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def end_tree(pid: int, started: int) -> None:
    """SIGKILL a process that is not our child, and its descendants, if it still is the expected one."""
    if start_time(pid) != started:
        return
    tree = {pid: started}
    with contextlib.suppress(psutil.NoSuchProcess):
        found = (child.pid for child in psutil.Process(pid).children(recursive=True))
        tree |= {child: start for child in found if (start := start_time(child)) is not None}
    for one in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    happens(lambda: all(start_time(one) != start for one, start in tree.items()), _DEATH)
