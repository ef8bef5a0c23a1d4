"""The agent's main loop."""

from __future__ import annotations

import gc
import json
import os
import select
import threading
import time
from typing import Any, NoReturn

from guests.agent.payload.answering import answer, look_after
from guests.agent.payload.cases import report_case, reset
from guests.agent.payload.declare import SPOILING
from guests.agent.payload.directories import DIRS
from guests.agent.payload.maps import MAPS
from guests.agent.payload.platforms import learn_flags
from guests.agent.payload.state import HERE, KEPT
from guests.agent.payload.values import Identity
from guests.agent.payload.worker import CRASHED, Worker, crash_of, identity_of

LOOK_LIMIT = 30.0
"""Seconds for a look at what a further process has changed."""

MOST_PARKED = 4
"""Processes of one user that are kept."""


class Agent:
    """Requests in, replies out, every call bounded.

    Calls of "main" are made here, in the loop's own thread: under an emulator each process switch costs milliseconds. A
    second thread watches: when a call overruns its limit, it replies and forks a successor, which has only the watching
    thread and takes over the channels; this process only waits for the stuck call. Each background request (`start`)
    has its own thread.
    """

    def __init__(self, source: int, sink: int) -> None:
        self.source, self.sink = source, sink
        self.lines: list[bytes] = []
        self.buffer = b""
        self.workers: dict[str, Worker] = {}
        self.specs: dict[str, dict[str, Any]] = {}
        self.parked: dict[Identity, list[Worker]] = {}
        """Processes that are as new, by who they are."""
        self.dead: dict[str, int | None] = {}
        """Wait status of each process that died between calls, until its next call is answered with it."""
        self.current: tuple[int, float] | None = None
        """Number and deadline of the call being made."""
        self.background: dict[int, float] = {}
        """Deadline of each background request, by number."""
        self.lock = threading.Lock()
        self.succeeded = False
        self.spent = 0.0
        """Seconds that no reply has reported yet."""
        self.unsent = b""
        """Replies that are sent with the next one."""
        KEPT.update((source, sink))

    def say(self, reply: dict[str, Any], later: bool = False) -> None:
        """Send a reply; `later`: with the next one."""
        line = json.dumps(reply).encode() + b"\n"
        if later:
            with self.lock:
                self.unsent += line
        else:
            self.send(line)

    def send(self, data: bytes) -> None:
        """Send whole lines, from one thread at a time."""
        with self.lock:
            data, self.unsent = self.unsent + data, b""
            while data:
                data = data[os.write(self.sink, data) :]

    def run(self) -> None:
        """Serve until the caller closes the channel."""
        gc.freeze()  # existing objects are frozen, so that forked processes share their pages for longer
        threading.excepthook = lambda args: self.crash(args.exc_value)
        threading.Thread(target=self.watch, daemon=True).start()
        try:
            self.loop()
        except Exception as e:
            self.crash(e)

    def crash(self, error: BaseException | None) -> NoReturn:
        """Report an error outside a request, and end: silence would look like a fault of the guest."""
        try:
            self.say(crash_of(error))
        finally:
            os._exit(CRASHED)

    def watch(self) -> None:
        """Reply for calls that overrun their limits: the body of the second thread."""
        while True:
            time.sleep(0.2)
            now, current = time.monotonic(), self.current
            for number, deadline in list(self.background.items()):
                if deadline <= now and self.background.pop(number, 0.0):
                    self.say({"id": number, "hung": True})
            if current is not None and current[1] <= now and current is self.current:
                self.succeeded = True
                successor = os.fork()
                if successor == 0:
                    self.succeed(current[0])
                os.waitpid(successor, 0)
                os._exit(0)

    def succeed(self, hung: int) -> NoReturn:
        """In the successor of a stuck agent: reply for the call and continue."""
        self.lock, self.current, self.background, self.succeeded = threading.Lock(), None, {}, False
        MAPS.clear()
        DIRS.clear()
        reset()
        self.say({"id": hung, "hung": True})
        self.run()
        os._exit(0)

    def drop(self, name: str, reply: dict[str, Any] | None = None) -> int | None:
        """End a further process, answer its requests with `reply` or its death; returns its wait status."""
        w = self.workers.pop(name)
        status = w.end()
        for number, _deadline, _look in w.waiting:
            self.say(dict(reply or {"died": status}, id=number))
        return status

    def hire(self, name: str) -> Worker:
        """A further process with that name: a parked one, or a new one."""
        spec = self.specs.get(name, {})
        parked = self.parked.get(identity_of(spec), [])
        while parked:
            w = parked.pop()
            if w.again(spec):
                return w
            w.end()
        return Worker(spec)

    def reap(self) -> None:
        """End or reset every process but this one."""
        for name in list(self.workers):
            w = self.workers[name]
            parked = self.parked.setdefault(w.identity, [])
            if len(parked) < MOST_PARKED and w.park():
                parked.append(self.workers.pop(name))
            else:
                self.drop(name)
        self.specs, self.dead = {}, {}

    def loop(self) -> None:
        """Handle requests until the caller closes the channel, and relay replies of the further processes."""
        since = time.monotonic()
        while True:
            while self.lines:
                since = self.take(self.lines.pop(0), since)
            if self.unsent:
                self.send(b"")
            now = time.monotonic()
            self.spent += now - since
            part, since = self.wait(now)
            if part is None:
                continue
            if not part:
                self.end()
                return
            *lines, self.buffer = (self.buffer + part).split(b"\n")
            self.lines += lines

    def wait(self, now: float, *, for_caller: bool = True) -> tuple[bytes | None, float]:
        """Wait for the caller and the further processes, and pass on their replies.

        Returns what the caller sent, None for nothing yet, and when the waiting was over.
        """
        for name, w in list(self.workers.items()):
            if w.waiting and w.waiting[0][1] <= now:
                self.drop(name, {"stopped": w.pid} if w.stopped() else {"hung": True})
        if not self.workers and for_caller:  # a blocking read saves one system call
            return os.read(self.source, 1 << 20), time.monotonic()
        deadlines = [w.waiting[0][1] for w in self.workers.values() if w.waiting]
        channels = {w.channel.fileno(): name for name, w in self.workers.items()}
        if not deadlines and not for_caller:
            return None, time.monotonic()
        limit = min(deadlines) - now if deadlines else None
        ready = select.select([*([self.source] if for_caller else []), *channels], [], [], limit)[0]
        part = os.read(self.source, 1 << 20) if self.source in ready else None
        since = time.monotonic()
        for fd in ready:
            if fd != self.source:
                self.relay(channels[fd])
        return part, since

    def finish(self) -> None:
        """End the current call, unless it was so late that the successor has replied for it."""
        if self.succeeded:
            time.sleep(1e9)  # this process is over
        self.current = None

    def settle(self) -> float:
        """Wait until the further processes have answered all requests; returns when that was."""
        since = time.monotonic()
        while any(w.waiting for w in self.workers.values()):
            _, since = self.wait(time.monotonic(), for_caller=False)
        return since

    def end(self) -> None:
        """End every further process."""
        for name in list(self.workers):
            self.drop(name)
        for parked in self.parked.values():
            for w in parked:
                w.end()

    def relay(self, name: str) -> None:
        """Pass on a further process's reply, or its death."""
        w = self.workers[name]
        try:
            part = w.channel.recv(1 << 20)
        except OSError:
            part = b""
        if not part:
            asked, status = w.waiting, self.drop(name)
            if not asked:
                self.dead[name] = status
            return
        *lines, w.buffer = (w.buffer + part).split(b"\n")
        for line in lines:
            number, _, how = w.waiting.pop(0) if w.waiting and not line.startswith(b'{"crash"') else (0, 0.0, "")
            if how and b'"changed"' in line:
                reply = json.loads(line)
                self.current = (number, time.monotonic() + LOOK_LIMIT)
                look_after(reply, how)
                self.finish()
                self.say(reply)
            else:
                self.send(line + b"\n")

    def take(self, line: bytes, since: float) -> float:
        """Perform one request, or pass it on; returns until when replies have accounted for time, at first `since`."""
        request = json.loads(line)
        if "flags" in request:
            learn_flags(request["flags"])
        if request.get("after"):
            since = self.settle()
        name, op_name, limit = request.get("proc", "main"), request["op"], request.get("timeout", 30)
        if op_name == "@reap":
            self.reap()
            self.say({"id": request["id"], "v": None})
        elif op_name in ("@spawn", "@kill"):
            if name in self.workers:
                self.drop(name)
            self.dead.pop(name, None)
            if op_name == "@spawn":
                self.specs[name] = request["kw"]
            self.say({"id": request["id"], "v": None}, later=request.get("held", False) and bool(self.lines))
        elif name in self.dead:
            self.say({"id": request["id"], "died": self.dead.pop(name)})
        elif name != "main":
            self.pass_on(name, request, line, limit)
        elif request.get("background"):
            self.background[request["id"]] = time.monotonic() + limit
            threading.Thread(target=self.answer_later, args=(request,), daemon=True).start()
        else:
            self.current = (request["id"], since + limit)
            reply, since = answer(request, since)
            if request.get("look"):
                look_after(reply, request["look"])
            self.finish()
            if HERE.in_case:
                report_case(reply)
            reply["o"], self.spent = round(self.spent, 6), 0.0
            self.say(reply, later=request.get("held", False) and bool(self.lines))
        return since

    def pass_on(self, name: str, request: dict[str, Any], line: bytes, limit: float) -> None:
        """Pass a request to its further process."""
        if name not in self.workers:
            self.workers[name] = self.hire(name)
        w = self.workers[name]
        w.spoiled = w.spoiled or request["op"] in SPOILING
        begins = max([time.monotonic(), *[deadline for _, deadline, _look in w.waiting]])
        w.waiting.append((request["id"], begins + limit, request.get("look", "")))
        try:
            w.channel.sendall(line + b"\n")
        except OSError:
            self.drop(name)

    def answer_later(self, request: dict[str, Any]) -> None:
        """Answer a background request, unless its limit is over by then."""
        reply, _ = answer(request, time.monotonic())
        if self.background.pop(request["id"], None):
            self.say(reply)
