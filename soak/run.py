"""Target + workloads -> journal. Starts, polls, records, recovers; judges nothing.

Everything happens in one thread: the agent's link and the machine want it so, and a poll costs milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError, SuiteError, UsageError
from conformance.mounts import MountOptions, parse
from conformance.targets import kinds, spec
from conformance.targets.deployment import Deployment
from guests.agentlink import AgentBug, CallHung, LinkLost
from guests.processes import clean_left_over
from soak.artefacts import Artefacts
from soak.inside.common import MARK, digest_of, manifest
from soak.journal import Iteration, Journal
from soak.monitors import Monitor
from soak.plan import Job, Plan
from soak.program import InsideProgram
from soak.view import View
from soak.workloads import find

POLL = 0.5
"""Seconds between two looks at the programs inside."""
HEALTH = 15.0
"""Seconds between two questions whether the target still serves."""
GRACE = 60.0
"""Seconds that the iterations in progress have when the time is up."""
ATTEMPTS = 3
"""Recoveries without an iteration between them; after that many the target does not come back."""
TOO_MANY = 25
"""Failed iterations after which a run ends: more of them tell nothing new."""

GUEST_GONE = (LinkLost, CallHung, AgentBug)


class Running:
    """One job while its program runs."""

    def __init__(self, job: Job, program: InsideProgram, outside: Path) -> None:
        self.job, self.program, self.outside = job, program, outside
        self.begun: tuple[int, int] | None = None
        """(number, row of the journal) of the iteration in progress."""
        self.ops, self.heard = 0.0, time.monotonic()


class Runner:
    """One session of a run."""

    def __init__(self, journal: Journal, view: View) -> None:
        self.journal, self.view = journal, view
        self.plan = Plan(**journal.plan)
        self.artefacts = Artefacts(journal.run_dir / "artefacts", self.plan.artefact_mb)
        self.monitors: list[Monitor] = []
        self._running: list[Running] = []
        self._deployment: Deployment | None = None
        self._mark: Any = None
        self._recoveries = 0
        self._failed = 0
        self._next_sample = self._next_health = 0.0

    @property
    def deployment(self) -> Deployment:
        """The started target."""
        assert self._deployment is not None
        return self._deployment

    def run(self) -> None:
        """Work until the plan is fulfilled. Interrupted, it leaves the journal whole and nothing running."""
        spent, gap = active_seconds(self.journal), _gap(self.journal)
        first = self.journal.begin_session({"pid": os.getpid(), "host": platform.node()}) == 1
        if not first:
            self.journal.event("resumed", gap_seconds=gap, seconds_before=spent)
        self._failed = sum(1 for i in self.journal.iterations() if i.outcome == "fail")
        why = "interrupted"
        try:
            for line in clean_left_over():
                self.view.line(line)
            self._start_target()
            self._start_jobs()
            why = self._loop(time.monotonic() - spent)
            self.journal.event("finished", why=why)
        except KeyboardInterrupt as e:
            self.journal.event("interrupted", by="SIGTERM" if "SIGTERM" in str(e) else "SIGINT")
            raise
        except (InfrastructureError, SuiteError) as e:
            why = str(e)
            with contextlib.suppress(InfrastructureError):
                self.journal.event("broken", why=why)
            raise
        finally:
            self._stop()
            with contextlib.suppress(InfrastructureError):
                self.journal.event("session-ended", why=why)

    # ------------------------------------------------------------ the target

    def _start_target(self) -> None:
        target = spec.load(self.plan.target)
        options = self.plan.target_options
        kinds.check(target, options)
        directory = self.journal.run_dir / f"session-{self.journal.session}"
        directory.mkdir(exist_ok=True)
        self._deployment = kinds.deployment(target, directory.absolute(), self.view.line, options)
        self._deployment.start()
        self.journal.event("environment", **self._deployment.environment(), host_kernel=platform.release(),
                           host_cpus=os.cpu_count())  # fmt: skip
        self._mark = self._deployment.mark()

    def _roots(self, share: int, options: MountOptions) -> tuple[str, str]:
        """Where that share is inside and outside, mounted."""
        if share == 0:
            self.journal.event("mounted", share=0, line=self.deployment.mount(options))
            return self.deployment.inside_root, self.deployment.outside_root
        place = self.deployment.beside(share, options)
        self.journal.event("mounted", share=share, line=place.mount_line)
        return place.inside_root, place.outside_root

    def _start_jobs(self) -> None:
        options = parse(self.plan.mount)
        places = {share: self._roots(share, options) for share in sorted({j.share for j in self.plan.jobs})}
        self._running = []
        for job in self.plan.jobs:
            inside, outside = places[job.share]
            name = f"{MARK}-{job.instance}"
            workload = find(job.workload)
            self._need(workload.programs, job.workload)
            config = {
                **workload.options, **job.options, "name": job.instance, "seed": self.plan.seed,
                "root": f"{inside}/{name}", "first": self.journal.next_number(job.instance),
                **({"last": self.plan.iterations - 1} if self.plan.iterations is not None else {}),
            }  # fmt: skip
            directory = f"{self.deployment.control_root}/soak-{job.instance}"
            program = InsideProgram(self.deployment.inside, workload.module, directory, config)
            program.start()
            self._running.append(Running(job, program, Path(outside) / name))

    def _need(self, programs: tuple[str, ...], workload: str) -> None:
        for program in programs:
            if self.deployment.inside.call("which", program) is None:
                raise InfrastructureError(
                    f"the guest has no {program}, which workload {workload} needs",
                    "take an image that has it, or another --workload",
                )

    def _recover(self, why: str) -> None:
        """The target died or hangs: a fresh guest, and the iterations in progress begin again."""
        begun = time.monotonic()
        self.artefacts.save_console(self.deployment, self._mark, f"trouble-{self.journal.session}")
        self.journal.event("trouble", source="target", what=why)
        self.view.trouble(why)
        self._recoveries += 1
        if self._recoveries > ATTEMPTS:
            raise InfrastructureError(
                f"the target does not come back: {why}", f"see {self.journal.run_dir}; then `assay9 soak resume`"
            )
        try:
            self.deployment.recover()
            self._mark = self.deployment.mark()
            self._start_jobs()
        except GUEST_GONE as e:
            self._recover(f"after the restart: {e}")
            return
        self.journal.event("recovered", seconds=time.monotonic() - begun)

    # ------------------------------------------------------------ the loop

    def _loop(self, began: float) -> str:
        """Until there is nothing more to do; why it ended."""
        limit = None if self.plan.seconds is None else began + self.plan.seconds
        told = False
        while True:
            now = time.monotonic()
            if limit is not None and now >= limit and not told:
                told = True
                for running in self._running:
                    running.program.finish_soon()
            if limit is not None and now >= limit + GRACE:
                return "time is up"
            if self._failed >= TOO_MANY:
                return f"{self._failed} iterations failed"
            try:
                self._poll(now)
            except GUEST_GONE as e:
                self._recover(str(e))
            if all(r.program.done for r in self._running):
                return "time is up" if told else "all iterations done"
            self.view.tick(began, self.plan.seconds, [(r.job.instance, r.begun, r.ops) for r in self._running])
            time.sleep(POLL)

    def _poll(self, now: float) -> None:
        for running in self._running:
            for event in running.program.poll():
                running.heard = now
                self._take(running, event)
            if running.program.done:
                continue
            if now - running.heard > find(running.job.workload).quiet_seconds:
                raise CallHung(f"workload {running.job.instance} gave no sign of life for {now - running.heard:.0f} s")
        if now >= self._next_sample:
            self._next_sample = now + self.plan.sample_seconds
            self._sample(now)
        if now >= self._next_health:
            self._next_health = now + HEALTH
            self._health()

    def _health(self) -> None:
        if trouble := self.deployment.trouble():
            raise LinkLost(trouble)
        for running in self._running:
            if not running.program.done and not running.program.running() and not running.program.poll():
                raise LinkLost(
                    f"the program of workload {running.job.instance} ended unasked: {running.program.last_words()}"
                )

    def _take(self, running: Running, event: dict[str, Any]) -> None:
        """One thing that a program inside said."""
        instance, kind = running.job.instance, event["e"]
        if kind == "begin":
            running.begun, running.ops = (event["n"], self.journal.begin(instance, event["n"])), 0
        elif kind == "alive":
            running.ops = event["ops"]
        elif kind == "check":
            running.program.answer(event["n"], seen_outside(running.outside / event["path"], event["manifest"]))
        elif kind == "note":
            self.journal.event("note", workload=instance, text=event["text"])
        elif kind == "end":
            self._ended(running, event)

    def _ended(self, running: Running, event: dict[str, Any]) -> None:
        assert running.begun is not None
        number, row = running.begun
        data = event["data"]
        if event["outcome"] != "pass":
            data = {**data, "artefacts": self.artefacts.save(running.job.instance, number, data, running.program)}
            self._failed += 1
            self.view.trouble(f"{running.job.instance} {number}: {data['what']}")
        self.journal.end(row, event["outcome"], event["s"], data)
        running.begun, self._recoveries = None, 0
        self.view.iteration(running.job.instance, number, event["outcome"], event["s"], data)

    def _sample(self, now: float) -> None:
        values: dict[str, float] = {}
        for running in self._running:
            values[f"quiet.{running.job.instance}"] = now - running.heard
            values[f"ops.{running.job.instance}"] = running.ops
        for monitor in self.monitors:
            with contextlib.suppress(OSError):
                values.update(monitor.sample())
        self.journal.sample(values)
        for source, text in self.deployment.excerpts(self._mark):
            self.journal.event("console", source=source, text=text[:8000])
            self.view.trouble(f"{source}: {text.splitlines()[0] if text else ''}")
        self._mark = self.deployment.mark()

    def _stop(self) -> None:
        for running in self._running:
            with contextlib.suppress(Exception):
                running.program.kill()
        if self._deployment is not None:
            self._deployment.stop()
        self.view.close()


def seen_outside(path: Path, expected: str) -> str:
    """What to answer to a check: nothing where outside sees the same, else what it sees."""
    try:
        lines = manifest(str(path))
    except OSError as e:
        return f"outside cannot read it: {e}"
    return "" if digest_of(lines) == expected else "outside sees:\n" + "\n".join(lines[:200])


def active_seconds(journal: Journal) -> float:
    """How long the run has worked so far: each session from its beginning to the last thing it recorded."""
    return sum(max(0.0, last - begin) for begin, last in _spans(journal))


def _gap(journal: Journal) -> float:
    spans = _spans(journal)
    return time.time() - spans[-1][1] if spans else 0.0


def _spans(journal: Journal) -> list[tuple[float, float]]:
    moments: dict[int, list[float]] = {s.id: [s.at] for s in journal.sessions()}
    for e in journal.events():
        moments[e.session].append(e.at)
    for i in journal.iterations():
        moments[i.session] += [i.at, i.ended_at or i.at]
    for s in journal.samples():
        moments[s.session].append(s.at)
    return [(min(m), max(m)) for m in moments.values()]


def cut_off(iterations: list[Iteration]) -> list[Iteration]:
    """Those that never ended."""
    return [i for i in iterations if i.outcome is None]


def check_resumable(journal: Journal) -> None:
    """Raise UsageError when there is nothing to resume."""
    if finished := journal.events("finished"):
        raise UsageError(
            f"run {journal.run_dir.name} is finished ({finished[-1].data['why']}): "
            f"`assay9 soak report {journal.run_dir.name}`, or start another run"
        )
