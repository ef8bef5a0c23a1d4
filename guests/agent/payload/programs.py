"""Ops on programs and on a process as a whole."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time

from guests.agent.payload.declare import op
from guests.agent.payload.machine import check, libc
from guests.agent.payload.platforms import HERE_IS
from guests.agent.payload.state import under_root
from guests.agent.payload.values import Ended

PROGRAMS: dict[int, subprocess.Popen[bytes]] = {}


@op(spoils=True)
def setrlimit(which: int, soft: int) -> None:
    """Lower a soft limit (RLIMIT_FSIZE, RLIMIT_NOFILE) of this process; for spawned processes only."""
    which = HERE_IS.resources.get(which, which)
    limits = (ctypes.c_ulong * 2)()
    check(libc.getrlimit(which, limits))
    limits[0] = soft
    check(libc.setrlimit(which, limits))


@op()
def getpid() -> int:
    return os.getpid()


@op()
def run(
    argv: list[str], timeout: float = 60, stdin: bytes = b"", cwd: str | None = None, env: dict[str, str] | None = None
) -> Ended:
    """Run a program to its end: {"status", "stdout", "stderr"}. A relative argv[0] with "/" is below the root."""
    words = [os.fsencode(a) for a in argv]
    if b"/" in words[0]:
        words[0] = under_root(words[0])
    done = subprocess.run(
        words,
        input=stdin,
        capture_output=True,
        timeout=timeout,
        cwd=None if cwd is None else under_root(cwd),
        env=env,
        check=False,
    )
    return {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


@op(spoils=True)
def start_program(argv: list[str]) -> int:
    """Start a program without waiting for it; returns its process id. A relative argv[0] is below the root."""
    process = subprocess.Popen([under_root(argv[0]), *argv[1:]], stdin=subprocess.DEVNULL)
    PROGRAMS[process.pid] = process
    return process.pid


@op()
def end_program(pid: int) -> None:
    PROGRAMS[pid].kill()
    PROGRAMS.pop(pid).wait()


@op()
def which(program: str) -> str | None:
    return shutil.which(program, path="/bin:/usr/bin:/sbin:/usr/sbin")


@op(needs="proc")
def loaded_library() -> str | None:
    """The path of a small library that this process has loaded and that another can preload, or None."""
    with open("/proc/self/maps") as f:
        found = {line.split()[-1] for line in f if ".so" in line}
    for wanted in ("libffi", "libz.", "libm.", "libm-"):
        for path in sorted(found):
            if os.path.basename(path).startswith(wanted):
                return path
    return None


@op()
def uname() -> list[str]:
    return list(os.uname())


@op()
def clock(step_ns: int = 0) -> list[int]:
    """Move the time of day by so many nanoseconds; returns [the time of day, the monotonic clock] in nanoseconds."""
    if step_ns:
        time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() + step_ns)
    return [time.time_ns(), time.clock_gettime_ns(time.CLOCK_MONOTONIC)]


@op()
def sleep(seconds: float) -> None:
    time.sleep(seconds)
