"""The further processes that answer requests: another user, another umask, a second process."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
import traceback
from typing import Any, NoReturn

from guests.agent.payload.answering import answer
from guests.agent.payload.state import FD_PATHS, HERE, KEPT, open_descriptors
from guests.agent.payload.trace import TRACE_FDS
from guests.agent.payload.values import Identity

PARK_LIMIT = 2.0
"""Seconds that a process has to close what it has open before it is killed instead."""

CRASHED = 70
"""Exit status of a process of the agent that raised what no request did (EX_SOFTWARE of sysexits.h)."""


def crash_of(error: BaseException | None) -> dict[str, str]:
    """The last message of a process that failed outside a request."""
    return {"crash": "".join(traceback.format_exception(type(error), error, error.__traceback__) if error else ())}


def serve_requests(channel: socket.socket, root: bytes) -> NoReturn:
    """Serve requests on `channel` until it closes: the main loop of a further process."""
    HERE.root, HERE.root_fd = root, None  # the descriptor was the agent's
    KEPT.clear()
    KEPT.update([channel.fileno(), *TRACE_FDS.values()])
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    buffer = b""
    while True:
        while b"\n" not in buffer:
            part = channel.recv(1 << 20)
            if not part:
                os._exit(0)
            buffer += part
        line, buffer = buffer.split(b"\n", 1)
        request = json.loads(line)
        if request["op"] == "@again":
            HERE.root = os.fsencode(request["root"])
            os.umask(request["umask"])
        else:
            reply, _ = answer(request, time.monotonic())
            channel.sendall(json.dumps(reply).encode() + b"\n")


def identity_of(spec: dict[str, Any]) -> Identity:
    """The properties of a further process that cannot be changed later: its user and groups."""
    return spec.get("uid"), spec.get("gid"), tuple(spec.get("groups", ()))


def root_of(spec: dict[str, Any]) -> bytes:
    """The root of a further process: by default the agent's own."""
    return os.fsencode(spec["root"]) if "root" in spec else HERE.root


class Worker:
    """The agent's view of one further process.

    A fork is expensive: under User-Mode Linux 17 ms of processor time, to copy pages. So when its case ends, a process
    whose state can be reset is parked, and another case reuses it, like the main one.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self.identity, self.spoiled = identity_of(spec), False
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _become(spec, theirs.fileno())
                serve_requests(theirs, root_of(spec))
            except BaseException as e:
                theirs.sendall(json.dumps(crash_of(e)).encode() + b"\n")
            finally:
                os._exit(CRASHED)
        theirs.close()
        self.channel, self.buffer = ours, b""
        self.waiting: list[tuple[int, float, str]] = []
        """Number and deadline of the requests it has not answered, in order, and how to look at what they changed."""
        KEPT.add(ours.fileno())

    def park(self) -> bool:
        """Reset it for reuse with its identity (see `identity_of`); False if that is impossible or takes too long."""
        if self.spoiled or self.waiting:
            return False
        try:
            self.channel.settimeout(PARK_LIMIT)
            self.channel.sendall(b'{"id":0,"op":"reset","args":[],"kw":{}}\n')
            said = self.channel.recv(1 << 16)
            self.channel.settimeout(None)
        except OSError:
            return False
        return said.endswith(b"\n") and b'"v": null' in said

    def again(self, spec: dict[str, Any]) -> bool:
        """Reuse it with the root and umask of `spec`; False if it has died."""
        if select.select([self.channel], [], [], 0)[0]:
            return False
        asked = {"op": "@again", "root": os.fsdecode(root_of(spec)), "umask": spec.get("umask", 0o022)}
        try:
            self.channel.sendall(json.dumps(asked).encode() + b"\n")
        except OSError:
            return False
        return True

    def stopped(self) -> bool:
        """Whether a signal keeps it from running, rather than its call. Source: proc(5)."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                return file.read().rpartition(b")")[2].split()[:1] == [b"T"]
        except OSError:
            return False

    def end(self) -> int | None:
        """Kill it; returns the wait status, or None if it is stuck in the kernel and does not die."""
        KEPT.discard(self.channel.fileno())
        self.channel.close()
        try:
            os.kill(self.pid, signal.SIGKILL)
            for attempt in range(1000):
                os.sched_yield()  # usually enough time for it to die
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    return status
                time.sleep(0.002 if attempt > 3 else 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # it is an earlier agent's child (see Agent.succeed)
        return None


def _become(spec: dict[str, Any], channel: int) -> None:
    """In a process just forked: close the agent's other descriptors, whose locks and fifo ends must not be shared; set
    the user, the groups and the umask of `spec`.
    """
    for name in [name for name in TRACE_FDS if name != "marker"]:
        del TRACE_FDS[name]
    keep = {0, 1, 2, channel, *TRACE_FDS.values()}
    for fd in open_descriptors():
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass
    FD_PATHS.clear()
    os.dup2(os.open("/dev/null", os.O_RDWR), 0)
    os.dup2(2, 1)
    os.setsid()
    os.umask(spec.get("umask", 0o022))
    os.chdir("/")
    if "uid" in spec:
        uid, gid = spec["uid"], spec.get("gid", spec["uid"])
        os.setgroups(spec.get("groups", []))
        if hasattr(os, "setresuid"):
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        else:  # illumos; for root both set the saved ids, too
            os.setregid(gid, gid)
            os.setreuid(uid, uid)
