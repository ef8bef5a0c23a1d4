"""One workload while it runs: its program inside, its functions on the host, its iterations in the journal."""

from __future__ import annotations

import concurrent.futures
import json
import queue
import threading
import time
from typing import Any

from conformance.errors import InfrastructureError
from conformance.vfs.deployment import Deployment
from guests.agent.link import CallHung, LinkLost
from soak.artefacts import Artefacts
from soak.host import Answer, Host, look_outside
from soak.inside.common import MARK
from soak.journal import Journal, Outcome
from soak.outside import Outside
from soak.plan import Job, Plan
from soak.program import InsideProgram
from soak.view import View
from soak.workloads import find

NO_SPACE = ("No space left on device", "Disk quota exceeded", "errno 28", "database or disk is full")


class RunningJob:
    """One job of one session. Not thread-safe, but answers to the program are computed in another thread."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        deployment: Deployment,
        roots: tuple[str, Outside],
        journal: Journal,
        view: View,
        artefacts: Artefacts,
    ) -> None:
        self.job, self.plan, self.deployment = job, plan, deployment
        self.journal, self.view, self.artefacts = journal, view, artefacts
        self.workload = find(job.workload)
        inside, outside = roots
        name = f"{MARK}-{job.instance}"
        self.directory = f"{deployment.control_root}/soak-{job.instance}"
        self.host = Host(
            job,
            deployment,
            f"{inside}/{name}",
            outside.below(name),
            self.directory,
            plan.seed,
            self._note,
            kept(journal, job.instance),
            self._keep,
        )
        self.begun: tuple[int, int] | None = None
        """(number, row of the journal) of the iteration in progress."""
        self.ops, self.heard = 0.0, time.monotonic()
        self.took = 0.0
        """Seconds of the newest iteration."""
        self.held = False
        """It waits between two iterations, as `hold` asked."""
        self._no_space, self._no_space_until = False, 0.0
        self._thread, self._notes = threading.get_ident(), queue.SimpleQueue[str]()
        """The thread that may write to the journal, and the notes of other threads."""
        self._asked: tuple[str, concurrent.futures.Future[Any]] | None = None
        config = {
            **self.workload.options,
            **job.options,
            "name": job.instance,
            "seed": plan.seed,
            "root": self.host.inside_root,
            "first": max(plan.first, journal.next_number(job.instance)),
            "kept": self.host.kept,
            **({"last": plan.iterations - 1} if plan.iterations is not None else {}),
        }
        self.program = InsideProgram(deployment.inside, self.workload.module, self.directory, config)
        """Its program inside."""

    @property
    def done(self) -> bool:
        """It has finished all its work."""
        return self.program.done

    @property
    def waits(self) -> bool:
        """Its program waits for an answer."""
        return self._asked is not None

    def start(self) -> None:
        """Prepare and start it. Raises InfrastructureError if the guest does not have a program that it needs."""
        for program in self.workload.programs:
            if self.deployment.inside.calls.which(program) is None:
                raise InfrastructureError(
                    f"the guest has no {program}, which workload {self.job.workload} needs",
                    f"take an image with it (packages: {' '.join(self.workload.packages) or program}), "
                    "or another --workload",
                )
        self.program.place()
        if self.workload.prepare is not None:
            self.program.configure(self.workload.prepare(self.host))
        self.program.start()
        self.heard = time.monotonic()

    def poll(self, now: float) -> None:
        """Read its new lines. Raises CallHung if it was silent for too long."""
        while not self._notes.empty():
            self._note(self._notes.get())
        for event in self.program.poll():
            self.heard = now
            self._take(event)
        if self._asked is not None and self._asked[1].done():
            (place, future), self._asked = self._asked, None
            failure = future.exception()
            answer = {"answer": future.result()} if failure is None else {"error": f"{failure!r}"}
            self.program.answer(place, json.dumps(answer))
        if not self.done and now - self.heard > self.workload.quiet_seconds:
            if (error := self.program.interference(self._what)) is not None:
                raise error
            raise CallHung(f"workload {self.job.instance} gave no sign of life for {now - self.heard:.0f} s")

    def check(self) -> None:
        """Raise LinkLost if its program ended before it reported the end of its work, WorkerKilled if another process
        ended it."""
        if not self.done and not self.program.running():
            self.poll(time.monotonic())
            if not self.done:
                said = self.program.last_words()
                raise self.program.interference(self._what) or LinkLost(f"{self._what} ended unexpectedly: {said}")

    @property
    def _what(self) -> str:
        """Its program, for messages."""
        return f"the program of workload {self.job.instance}"

    def _note(self, text: str) -> None:
        if threading.get_ident() != self._thread:  # another thread computes an answer; `poll` reports it
            self._notes.put(text)
            return
        self.journal.event("note", workload=self.job.instance, text=text)
        self.view.line(f"{time.strftime('%H:%M:%S')}  {self.job.instance}: {text}")

    def _keep(self, key: str, value: Any) -> None:
        self.journal.event("kept", workload=self.job.instance, key=key, value=value)

    def _take(self, event: dict[str, Any]) -> None:
        """Handle one event of the program inside."""
        instance, kind = self.job.instance, event["e"]
        if kind == "begin":
            self.begun, self.ops, self.held = (event["n"], self.journal.begin(instance, event["n"])), 0, False
            self._no_space = time.monotonic() <= self._no_space_until
        elif kind == "alive":
            self.ops = max(self.ops, event["ops"])
        elif kind == "ask":
            place, function = f"answer-{event['n']}-{event['a']}", self._answerer(event["question"])
            self._asked = (place, in_thread(function, self.host, event["question"]))
        elif kind == "note":
            self._note(event["text"])
        elif kind == "keep":
            self.host.kept[event["key"]] = event["value"]
            self._keep(event["key"], event["value"])
        elif kind == "held":
            self.held = True
        elif kind == "end":
            self._ended(event)

    def _answerer(self, question: dict[str, Any]) -> Answer:
        if question.keys() == {"path", "manifest"}:
            return look_outside
        if self.workload.answer is None:
            raise InfrastructureError(
                f"workload {self.job.workload} asks its host part a question, but declares no answer"
            )
        return self.workload.answer

    def _ended(self, event: dict[str, Any]) -> None:
        assert self.begun is not None
        number, row = self.begun
        outcome: Outcome = event["outcome"]
        data = event["data"]
        if outcome == "fail" and self._no_space and out_of_space(data):
            outcome = "cut"
        if outcome == "fail" and (lost := self.deployment.ground_lost()) is not None:
            outcome, data = "error", {**data, "what": f"{lost} ({data.get('what')})"}
        if outcome in ("fail", "error"):
            more = {}
            if outcome == "fail" and self.workload.collect is not None:
                try:
                    more = self.workload.collect(self.host, data)
                except Exception as e:  # noqa: BLE001 - artefacts are a help; the failure itself is recorded nevertheless
                    more = {"collect-failed.txt": repr(e).encode()}
            data = {**data, "artefacts": self.artefacts.save(self.job.instance, number, data, self.program, more)}
            self.view.trouble(f"{self.job.instance} {number}: {data['what']}")
        self.journal.end(row, outcome, event["s"], data)
        self.begun, self.took = None, event["s"]
        self.view.iteration(self.job.instance, number, outcome, event["s"], data)

    def expect_no_space(self, expected: bool) -> None:
        """The export is full (or no longer): iterations may fail with ENOSPC; they are then `cut`."""
        # it takes a moment until the program sees free space again, and until we have read its earlier lines
        self._no_space_until = float("inf") if expected else time.monotonic() + 15.0
        self._no_space = self._no_space or expected


def out_of_space(data: dict[str, Any]) -> bool:
    """Whether an iteration failed because the disk was full."""
    text = f"{data.get('what', '')} {data.get('detail', '')}"
    return data.get("errno") in (28, 122) or any(word in text for word in NO_SPACE)


def in_thread(function: Answer, host: Host, question: dict[str, Any]) -> concurrent.futures.Future[Any]:
    """Run it in a thread that does not keep the process alive."""
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(function(host, question))
        except BaseException as e:  # noqa: BLE001 - the asker gets it
            future.set_exception(e)

    threading.Thread(target=run, daemon=True).start()
    return future


def kept(journal: Journal, instance: str) -> dict[str, Any]:
    """What that workload has kept so far."""
    return {e.data["key"]: e.data["value"] for e in journal.events("kept") if e.data["workload"] == instance}
