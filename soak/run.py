"""Target + workloads -> journal. Starts, polls, records, recovers; judges nothing.

Everything happens in one thread: the agent's link and the machine need that, and a poll costs milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from collections.abc import Callable
from typing import Any

from conformance.errors import InfrastructureError, SuiteError, Undrivable, UsageError
from conformance.sut.asked import asked_of, check
from conformance.sut.load import load
from conformance.sut.registry import kind_of
from conformance.vfs.deployment import Deployment
from conformance.vfs.mount_options import MountOptions, parse
from guests.agent.link import AgentBug, CallHung, LinkLost, WorkerDied, WorkerKilled
from guests.host import signals
from guests.host.processes import clean_left_over
from soak.artefacts import Artefacts
from soak.faults.scene import Scene
from soak.injector import Injector
from soak.jobs import RunningJob
from soak.journal import Journal
from soak.outside import Outside
from soak.plan import Plan
from soak.view import View
from soak.watching import Watching

BETWEEN = 1.0
"""Seconds between two records of the host's load, at least: one is made at the beginning and the end of iterations."""
POLL = 0.5
"""Seconds between two looks at the programs inside, at least; each costs a guest without KVM some milliseconds."""
SLOWEST = 3.0
"""The same at most: where iterations are long, a thirtieth of one is soon enough."""
SOON = 0.02
"""The same while a program waits for an answer of its host."""
HEALTH = 15.0
"""Seconds between two questions whether the target still serves."""
GRACE = 60.0
"""Seconds that the iterations in progress have when the time is up."""
ATTEMPTS = 3
"""Recoveries without an iteration between them; after that many the target does not come back."""
TOO_MANY = 25
"""Failed iterations after which a run ends: more of them show nothing new."""

GUEST_GONE = (LinkLost, CallHung, AgentBug, WorkerDied, WorkerKilled)


class Runner:
    """One session of a run."""

    outside: Outside
    """The exported directory of the first share, once the jobs are started."""
    watching: Watching
    """The monitors, once the jobs are started."""

    def __init__(self, journal: Journal, view: View) -> None:
        self.journal, self.view = journal, view
        self.plan = Plan.of(journal.plan)
        self.artefacts = Artefacts(journal.run_dir / "artefacts", self.plan.artefact_mb)
        self._jobs: list[RunningJob] = []
        self._ends: list[Callable[[], None]] = []
        """End what the jobs and the monitors have started in the guest."""
        self._injector: Injector | None = None
        self._identity = [0, 0]
        self._deployment: Deployment | None = None
        self._only: MountOptions | None = None
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
        """Work until the plan is fulfilled. When interrupted, it leaves the journal complete and nothing running."""
        spent, gap = active_seconds(self.journal), _gap(self.journal)
        first = self.journal.begin_session({"pid": os.getpid(), "host": platform.node()}) == 1
        if not first:
            self.journal.event("resumed", gap_seconds=gap, seconds_before=spent)
        self._failed = sum(1 for i in self.journal.iterations() if i.outcome == "fail")
        why = "interrupted"
        try:
            with self.view.phase(f"starting target {self.plan.target}"):
                for line in clean_left_over():
                    self.view.line(line)
                self._start_target()
            self._start_jobs()
            self._injector = Injector(self.journal, self.plan, self._scene, self.view)
            why = self._loop(time.monotonic() - spent)
            self.journal.event("finished", why=why)
        except KeyboardInterrupt:
            signals.finishing()
            self.journal.event("interrupted", by=(signals.received() or signal.SIGINT).name)
            raise
        except Undrivable as e:
            self.journal.event("broken", why=str(e))
            raise UsageError(f"this target cannot do that: {e}: another --mount, --shares or target") from e
        except (InfrastructureError, SuiteError) as e:
            why = str(e)
            with contextlib.suppress(InfrastructureError):
                self.journal.event("broken", why=why)
            raise
        finally:
            signals.finishing()
            self._stop()
            with contextlib.suppress(InfrastructureError):
                self.journal.event("session-ended", why=why)

    # ------------------------------------------------------------ the target

    def _start_target(self) -> None:
        target = load(self.plan.target)
        asked = asked_of(target, self.plan.options, load=self.plan.load)
        check(asked)
        directory = self.journal.run_dir / f"session-{self.journal.session}"
        directory.mkdir(exist_ok=True)
        self._only = kind_of(target).only_mount(asked)
        with signals.deferred():  # a half-made deployment cannot be stopped
            self._deployment = kind_of(target).deployment(asked, directory.absolute(), self.view.line)
        self._deployment.start()
        host = {"host_kernel": platform.release(), "host_cpus": os.cpu_count()}
        # a machine of the user's describes its guest in words, which are as true
        guest = {"guest": self._deployment.guest_mb > 0}
        self.journal.event("environment", **{**guest, **self._deployment.environment(), **host})
        self._mark = self._deployment.mark()

    def _options(self) -> MountOptions:
        """How shares are mounted: as requested, or in the only way of the target."""
        return self._only if self._only is not None and not self.plan.mount else parse(self.plan.mount)

    def _roots(self, share: int, options: MountOptions) -> tuple[str, Outside]:
        """Mount that share; returns its directories inside and outside."""
        if share == 0:
            line = self.deployment.mount(options)
            outside = Outside(*self.deployment.outside_at())
            self.journal.event("mounted", share=0, line=line, outside=str(outside))
            return self.deployment.inside_root, outside
        place = self.deployment.beside(share, options)
        self.journal.event("mounted", share=share, line=place.mount_line, outside=place.outside_root)
        return place.inside_root, Outside(self.deployment.outside_at()[0], place.outside_root)

    def _start_jobs(self) -> None:
        options = self._options()
        places = {share: self._roots(share, options) for share in sorted({j.share for j in self.plan.jobs})}
        self._jobs, self._ends = [], []
        for job in self.plan.jobs:
            made = RunningJob(
                job, self.plan, self.deployment, places[job.share], self.journal, self.view, self.artefacts
            )
            with self.view.phase(f"preparing workload {job.instance}"):
                made.start()
            self._jobs.append(made)
            self._ends.append(made.program.kill)
        self.outside = next(iter(places.values()))[1]
        self._identity = self.outside.identity()
        inside = [inside for inside, _ in places.values()]
        self.watching = Watching(self.deployment, inside, self.outside, self.plan.sample_seconds)
        self._ends.append(self.watching.kill)

    def _scene(self) -> Scene:
        """What a fault may use of this run."""
        return Scene(
            self.deployment,
            lambda: self.outside,
            lambda: self._jobs,
            lambda: self.watching,
            self._restart,
            lambda: self.deployment.mount(self._options()),
        )

    def _restart(self) -> None:
        """A fresh guest; the iterations in progress begin again. Raises as the guest does if it does not start."""
        with self.view.phase("restarting the target"):
            self.deployment.recover()
            self._mark = self.deployment.mark()
            self._start_jobs()

    def _recover(self, error: Exception, prefix: str = "") -> None:
        """The target crashed or hangs: start a fresh guest; the iterations in progress begin again."""
        why = f"{prefix}{error}"
        begun = time.monotonic()
        if self._injector is not None:
            self._injector.abandon(f"the target failed meanwhile: {why}")
        self.artefacts.save_console(self.deployment, self._mark, f"trouble-{self.journal.session}")
        lost = self.deployment.ground_lost(answers=False)  # another process may have ended it
        blameless = lost is not None or isinstance(error, AgentBug | WorkerKilled)
        self.journal.event("trouble", source="ground" if blameless else "target", what=str(lost or why))
        self.view.trouble(str(lost or why))
        self._recoveries += 1
        if self._recoveries > ATTEMPTS:
            raise InfrastructureError(
                f"the target does not start again: {why}", f"see {self.journal.run_dir}; then `assay9 soak resume`"
            )
        try:
            self._restart()
        except GUEST_GONE as e:
            self._recover(e, "after the restart: ")
            return
        self.journal.event("recovered", seconds=time.monotonic() - begun)

    # ------------------------------------------------------------ the loop

    def _loop(self, began: float) -> str:
        """Work until there is nothing more to do; returns why it ended."""
        limit = None if self.plan.seconds is None else began + self.plan.seconds
        asked = False
        while True:
            signals.check()
            now = time.monotonic()
            over = limit is not None and now >= limit
            if over and self._injector is not None:
                self._injector.enough = True
            if limit is not None and now >= limit + GRACE:
                return "time is up"
            if self.failed() >= TOO_MANY:
                return f"{self.failed()} iterations failed"
            try:
                if over and not asked and not self._silent:  # a paused guest is polled when it continues
                    for job in self._jobs:
                        job.program.finish_soon()
                    asked = True
                self._poll(now)
            except GUEST_GONE as e:
                asked = False  # restarted programs have not been requested to stop
                self._recover(e)
            if all(job.done for job in self._jobs):
                return "time is up" if over else "all iterations done"
            self.view.tick(began, self.plan.seconds, [(j.job.instance, j.begun, j.ops) for j in self._jobs])
            time.sleep(SOON if any(job.waits for job in self._jobs) else self._pace())

    @property
    def _silent(self) -> bool:
        """A fault keeps the guest from answering."""
        return self._injector is not None and self._injector.silent

    def _pace(self) -> float:
        return min(SLOWEST, max(POLL, min((job.took for job in self._jobs), default=0.0) / 30))

    def failed(self) -> int:
        """The number of failed iterations."""
        return self._failed + self.view.counts.get("fail", 0)

    def _poll(self, now: float) -> None:
        assert self._injector is not None
        self._injector.tick(now)
        self.watching.load.look()
        if self._silent:
            return
        for job in self._jobs:
            if not job.done:
                before = job.begun
                job.poll(now)
                if job.begun != before:
                    self._recoveries = 0 if before is not None else self._recoveries
                    if self.watching.load.age >= BETWEEN:  # so that an iteration has the load of its own time
                        self.journal.sample(self.watching.load.sample())
        if now >= self._next_sample:
            self._next_sample = now + self.plan.sample_seconds
            self._sample(now)
        if now >= self._next_health:
            self._next_health = now + HEALTH
            self._health()

    def _health(self) -> None:
        if self.outside.identity() != self._identity:
            raise InfrastructureError(
                f"the exported directory {self.outside} is gone", "find out what removes it; then `assay9 soak resume`"
            )
        if trouble := self.deployment.trouble():
            raise LinkLost(trouble)
        self.deployment.keep_time()
        for job in self._jobs:
            job.check()

    def _sample(self, now: float) -> None:
        values: dict[str, float] = {}
        for job in self._jobs:
            values[f"quiet.{job.job.instance}"] = now - job.heard
            values[f"ops.{job.job.instance}"] = job.ops
        values.update(self.watching.sample())
        self.journal.sample(values)
        # message rates are not in every sample
        self.view.latest = {k: rate for k, rate in self.view.latest.items() if k.startswith("msg.")} | values
        for source, text in self.deployment.excerpts(self._mark):
            self.journal.event("console", source=source, text=text[:8000])
            self.view.trouble(f"{source}: {text.splitlines()[0] if text else ''}")
        self._mark = self.deployment.mark()
        for source, line in self.watching.log_lines():
            self.journal.event("log", source=source, text=line[:1000])

    def _stop(self) -> None:
        if self._injector is not None:
            with contextlib.suppress(InfrastructureError):
                self._injector.abandon("the session ended")
        try:
            with self.view.phase("stopping the target"):
                for end in self._ends:
                    with contextlib.suppress(Exception):
                        end()
                if self._deployment is not None:
                    self._deployment.stop()
        finally:
            self.view.close()


def active_seconds(journal: Journal) -> float:
    """How long the run has worked so far: each session from its beginning to its last record."""
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


def check_resumable(journal: Journal) -> None:
    """Raise UsageError if there is nothing to resume."""
    if finished := journal.events("finished"):
        raise UsageError(
            f"run {journal.run_dir.name} is finished ({finished[-1].data['why']}): "
            f"`assay9 soak report {journal.run_dir.name}`, or start another run"
        )
