"""The caller's side of the agent: one request at a time or several in flight, over any line channel.

A channel carries lines to an agent and back, over SSH, a local pipe or a virtio console.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from guests.agent.by_name import returns
from guests.agent.clock import WrongClock
from guests.agent.ops import Ops
from guests.agent.wire import CallAbsent, as_declared, decode, encode, errno_number
from guests.errors import InfrastructureError
from guests.host.endings import interference, sent_signal
from guests.host.lines import LineChannel

OPEN_FLAGS = {name: getattr(os, name) for name in dir(os) if name.startswith("O_")}
"""How this host numbers open flags."""
_SHARE = 0.95
"""Of a call's limit must be over on this host, too, when the agent in the guest says that it is."""
_POSTED = 30.0
"""Seconds that a call may take which nobody waits for."""
_LAST_WORDS = 1.0  # seconds that an agent whose channel broke has to report why
_WINDOW = 16 << 10
"""Bytes of requests without a reply: a pipe holds them, even if the agent reads none while it writes its replies."""
_FOR_ROOM = 1.0
"""Seconds without any reply after which a request is sent all the same: what is in flight may wait for it."""
_GRACE = 15.0  # seconds after a call's own limit until the agent itself counts as lost


class CallHung(Exception):
    """A system call did not return within its limit; the agent killed the worker that made it."""


class WorkerDied(Exception):
    """The worker process that made the call died of it (a signal such as SIGBUS, or an exit)."""


class WorkerKilled(InfrastructureError):
    """Another process, or the kernel for want of memory, killed or stopped the worker process that made the call."""


class LinkLost(InfrastructureError):
    """The agent itself no longer answers: the guest died or hangs, or SSH broke."""


class Refused(InfrastructureError):
    """The agent cannot work on its machine."""


class Unprepared(Exception):
    """A posted call failed, so the calls after it could not work. `why` is how it ended.

    Not an OSError: it is raised by a later call, whose errno this is not.
    """

    def __init__(self, why: Exception) -> None:
        super().__init__(str(why))
        self.why = why


class AgentBug(Exception):
    """The agent raised something that no system call raises: a defect of the suite. Holds its traceback."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of one call: its value, the paths that it changed, and the seconds it took there.

    `seen`: for a call sent with `look`, (name below the root, lstat or errno) of what it changed.
    """

    value: Any
    changed: tuple[str, ...]
    seconds: float
    seen: tuple[tuple[str, Any], ...] | None = None


class CallError(OSError):
    """The call's errno, with the paths that it may have changed nevertheless."""

    changed: tuple[str, ...] = ()
    seconds: float = 0.0
    seen: tuple[tuple[str, Any], ...] | None = None
    about: Mapping[str, str] = {}
    """What its caller says of the call: `spelled` in whole, and names of its parts."""


class AgentLink:
    """Calls to one agent. Not thread-safe: one case at a time drives it."""

    def __init__(self, channel: LineChannel) -> None:
        self._channel = channel
        self._next = 0
        self._replies: dict[int, dict[str, Any]] = {}
        self._sent: dict[int, tuple[str, float]] = {}
        """The op of each request, and when it was sent by this host's monotonic clock: limits count on it."""
        self.seconds = 0.0
        """What the agent itself has spent on all its calls so far, decoding requests and writing replies included."""
        self.waits = 0
        """Round trips so far, whatever way leads to the agent: what was sent together is waited for once."""
        self._in_flight = 0
        """The last request that had been sent when the caller waited last."""
        self._flying: dict[int, int] = {}
        """The bytes of each request that has no reply yet."""
        self._posted: list[int] = []
        self._ending: list[int] = []
        """The requests that end the case, once they are sent."""
        self._held = bytearray()
        """Requests that are sent with the next one."""
        self.spawned = False
        """Whether there may be further processes; `reap` ends them."""
        self.traced: list[str] = []
        """What replies have reported of the trace since `begin_case`."""
        self._idle = False
        """Whether the reply that came last said that the main process has nothing open."""
        self._system = ""

    def send(
        self,
        op: str,
        args: tuple[Any, ...],
        kw: dict[str, Any],
        proc: str,
        timeout: float,
        background: bool = False,
        look: str = "",
        marked: bool = False,
        after: bool = False,
        named: bool = False,
        held: bool = False,
    ) -> int:
        """Send a request and return its number; `receive` gives its reply.

        A background call of the main process does not block its other calls. With `look` ("marked" in the trace, or
        "plain") the main process reports what a call changed in the same round trip. A marked call is named in the
        trace by its number. A call with `after` is made when all earlier ones have ended, in whatever process.
        A descriptor that a `named` call opens can be used by its number, as `Descriptor`, before the reply is there.
        A `held` request goes in one message with those that follow, at the latest when a reply is waited for: each
        message costs an emulated guest a switch to sshd and back.
        """
        self._next += 1
        self._sent[self._next] = op, time.monotonic()
        request: dict[str, Any] = {
            "id": self._next,
            "proc": proc,
            "op": op,
            "args": [encode(a) for a in args],
            "kw": {k: encode(v) for k, v in kw.items()},
            "timeout": timeout,
        }
        if self._next == 1:
            request["flags"] = OPEN_FLAGS  # an agent on another system may number them differently
        if background:
            request["background"] = True
        if look:
            request["look"] = look
        if marked:
            request["marked"] = True
        if after:
            request["after"] = True
        if named:
            request["named"] = True
        if held:
            request["held"] = True
        line = json.dumps(request).encode() + b"\n"
        self._make_room(len(line))
        self._flying[self._next] = len(line)
        self._held += line
        if not held:
            self._send_held()
        return self._next

    def _send_held(self) -> None:
        """Send the requests that were held back. Raises LinkLost."""
        if self._held:
            lines, self._held = bytes(self._held), bytearray()
            try:
                self._channel.send(lines)
            except (OSError, EOFError, InfrastructureError) as e:
                self._hear_the_rest()
                raise LinkLost(f"the agent's channel broke: {e}") from e

    def _make_room(self, size: int) -> None:
        """Take replies until so many bytes can be sent without both sides waiting for the other to read."""
        with contextlib.suppress(TimeoutError):
            while self._flying and sum(self._flying.values()) + size > _WINDOW:
                self._take(_FOR_ROOM)

    def _hear_the_rest(self) -> None:
        """Read what the agent sent before its channel broke. Raises Refused or AgentBug if it reported why it ended."""
        with contextlib.suppress(TimeoutError, LinkLost):
            while True:
                self._take(_LAST_WORDS)

    def _take(self, timeout: float) -> None:
        """Keep the next reply. Raises TimeoutError, LinkLost, and like `_keep`."""
        self._send_held()
        try:
            line = self._channel.recv_line(timeout)
        except TimeoutError:
            raise
        except (EOFError, OSError, InfrastructureError) as e:
            raise LinkLost(f"the agent's channel closed: {e}") from e
        self._keep(line)

    def receive(self, number: int, timeout: float) -> Reply:
        """Wait for the reply to request `number`.

        Raises CallError (the call's errno), CallHung, CallAbsent, WorkerDied, WorkerKilled, LinkLost, Refused or
        AgentBug; WrongClock if the agent reports a hang before the call's limit by this host's clock; Unprepared if a
        call that was posted before it has failed.
        """
        deadline = time.monotonic() + timeout + _GRACE
        if number not in self._replies and number > self._in_flight:
            self.waits += 1
            self._in_flight = self._next
        while number not in self._replies:
            try:
                self._take(max(0.01, deadline - time.monotonic()))
            except TimeoutError as e:
                raise LinkLost(f"the agent did not answer within {timeout + _GRACE:.0f} s") from e
        for posted in [n for n in self._posted if n in self._replies]:
            self._posted.remove(posted)
            try:
                self._taken(posted, timeout)
            except (CallError, CallHung, WorkerDied) as error:
                raise Unprepared(error) from error
        return self._taken(number, timeout)

    def _taken(self, number: int, timeout: float) -> Reply:
        """The reply to `number`, which has arrived."""
        reply = self._replies.pop(number)
        op, sent = self._sent.pop(number)
        taken = time.monotonic() - sent
        if "hung" in reply and taken < _SHARE * timeout:
            raise WrongClock(
                f"{timeout:.0f} s pass in the guest within {taken:.1f} s: its clock runs too fast",
                "its kernel measured it on a busy machine: run again",
            )
        self.seconds += reply.get("s", 0.0) + reply.get("o", 0.0)
        return _judge(op, reply, timeout)

    def ready(self, number: int, within: float) -> bool:
        """Whether the reply to `number` has arrived, or does within so many seconds.

        Raises CallAbsent if the call cannot be made there, LinkLost, Refused.
        """
        deadline = time.monotonic() + within
        while number not in self._replies:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            try:
                self._take(left)
            except TimeoutError:
                return False
        if "absent" in self._replies[number]:
            raise CallAbsent(self._replies[number]["absent"])
        return True

    def _keep(self, line: bytes) -> None:
        """Keep a reply until it is needed. Raises Refused if the agent cannot work on its machine, AgentBug if it
        failed outside a request.
        """
        reply = json.loads(line)
        if "refused" in reply:
            raise Refused(reply["refused"], "run the suite in a guest of one of these architectures")
        if "crash" in reply:
            raise AgentBug(f"the agent ended: {reply['crash']}")
        self._replies[reply["id"]] = reply
        self._flying.pop(reply["id"], None)
        self._idle = reply.get("idle", False)
        if "trace" in reply:
            self.traced.append(reply["trace"])

    @property
    def calls(self) -> Ops:
        """Calls of the main process."""
        return self.calls_with()

    def calls_with(self, proc: str = "main", timeout: float = 30.0) -> Ops:
        """Calls of a process, each bounded by `timeout` seconds. They raise like `receive`."""
        return Calls(self, proc, timeout)

    @property
    def system(self) -> str:
        """The name of the agent's operating system, as uname(2) has it. Asked once; raises like `receive`."""
        self._system = self._system or self.calls.uname()[0]
        return self._system

    def start(self, op: str, *args: Any, timeout: float = 30.0) -> Callable[[], Any]:
        """Send a call of the main process; the result waits for its value, and raises like `receive`.

        Calls started one after the other are made in that order, each whatever became of the one before, and cost one
        round trip together.
        """
        number = self.send(op, args, {}, "main", timeout)
        return lambda: self.receive(number, timeout).value

    def spawn(self, proc: str, **spec: Any) -> None:
        """Start a further process with that name; `spec`: its root, umask, uid, gid and groups."""
        number = self.send("@spawn", (), spec, proc, _POSTED, held=True)
        self.spawned = True
        self._posted.append(number)

    def kill(self, proc: str) -> None:
        """End a further process with SIGKILL."""
        self.calls_with(proc).perform("@kill")

    def post(self, op: str, *args: Any, **kw: Any) -> None:
        """Make a call of the main process without waiting for it; if it fails, the next `receive` raises Unprepared.

        It is sent with the next call: the agent handles requests in order.
        """
        number = self.send(op, args, kw, "main", _POSTED, held=True)
        self._posted.append(number)

    @property
    def at_rest(self) -> int:
        """The number of the last request if all are answered, or else 0."""
        return 0 if self._flying else self._next

    @property
    def idle(self) -> bool:
        """Whether the agent has nothing to do or to close: every call is answered, the last by the main process, which
        has no open descriptors, and there are no further processes.
        """
        return self._idle and not self.spawned and self.at_rest > 0

    def begin_case(
        self, path: str, *, drop_caches: bool = False, remove: str | None = None, trace: bool = False
    ) -> None:
        """Post the op of that name; from then on replies include the trace."""
        self.traced, self._ending = [], []
        for number in self._replies.keys() - set(self._posted):  # nobody waits for these any more
            del self._replies[number], self._sent[number]
        self.post("begin_case", path, drop_caches=drop_caches, remove=remove, trace=trace)

    def send_end(self) -> None:
        """Send the end of a case after its last calls, in one round trip with them; `end_case` waits for it."""
        if not self._ending:
            self._ending = [self.send("end_case", (), {}, "main", _POSTED)]
            if self.spawned:
                self.spawned = False
                self._ending.append(self.send("@reap", (), {}, "main", _POSTED))

    def end_case(self, *, wait: bool = True) -> str | None:
        """End a case and its further processes in one round trip; returns the trace, None without tracing.

        Without `wait`, for an idle agent, there is no round trip, and the trace is that of earlier replies.
        """
        if not wait and not self._ending:
            self.post("reset")
            return "".join(self.traced)
        self.send_end()
        number, *reap = self._ending
        self._ending = []
        for one in reap:
            self.receive(one, _POSTED)
        rest = self.receive(number, _POSTED).value
        return None if rest is None else "".join(self.traced) + rest

    def reap(self) -> None:
        """End every process but the main one, and wait for their end."""
        if self.spawned:
            self.calls.perform("@reap")
            self.spawned = False

    def close(self) -> None:
        """End the agent."""
        self._channel.close()


class Calls(Ops):
    """Calls of one process of an agent."""

    def __init__(self, link: AgentLink, proc: str, timeout: float) -> None:
        self._link, self._proc, self._timeout = link, proc, timeout

    def perform(self, op: str, *args: Any, **kw: Any) -> Any:
        """See ByName. Raises as `AgentLink.receive`."""
        return self._link.receive(self._link.send(op, args, kw, self._proc, self._timeout), self._timeout).value


def _judge(op: str, reply: dict[str, Any], timeout: float) -> Reply:
    changed, seconds = tuple(reply.get("changed", ())), reply.get("s", 0.0)
    seen = tuple((name, decode(value)) for name, value in reply["seen"]) if "seen" in reply else None
    if "errno" in reply:
        number = errno_number(reply["errno"])
        error = CallError(number, reply.get("text") or os.strerror(number))
        error.changed, error.seconds, error.seen = changed, seconds, seen
        raise error
    if "stopped" in reply:
        raise WorkerKilled(f"the calling process is stopped: process {reply['stopped']} got SIGSTOP", "find the sender")
    if "hung" in reply:
        raise CallHung(f"the call did not return within {timeout:.0f} s")
    if "absent" in reply:
        raise CallAbsent(reply["absent"])
    if "died" in reply:
        raise _death(reply["died"])
    if "bug" in reply:
        raise AgentBug(reply["bug"])
    return Reply(as_declared(returns(op), decode(reply.get("v"))), changed, seconds, seen)


def _death(status: int | None) -> WorkerDied | WorkerKilled:
    """The error for a process that died in its call, with this wait status."""
    if status is None or not os.WIFSIGNALED(status):
        return WorkerDied(f"the calling process ended with wait status {status}")
    number = os.WTERMSIG(status)
    if (sent := sent_signal(-number)) is not None:
        return WorkerKilled(*interference("the calling process", sent))
    return WorkerDied(f"the calling process was killed by signal {number}")
