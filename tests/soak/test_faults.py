"""Fault injection: faults are scheduled from the seed, are always undone, and report findings correctly."""

from __future__ import annotations

import io
import os
import random
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar, cast
from unittest import mock

import pytest

from conformance.errors import UsageError
from conformance.sut.parts.power import ByProcess
from conformance.sut.registry import kinds
from guests.agent.hosts import Host, LocalHost
from soak import faults
from soak import journal as journals
from soak.faults.host import Busy, DropCaches, Pause
from soak.faults.inside import Signals
from soak.faults.power import UNHEARD, promised
from soak.faults.scene import Scene
from soak.faults.space import fill
from soak.injector import Injector
from soak.inside import promises, storm
from soak.journal import Journal
from soak.judges.record import Record
from soak.outside import Outside
from soak.plan import Job, Plan, jobs_of
from soak.program import InsideProgram
from soak.run import Runner
from soak.view import View
from tests.soak.runs import soaked
from tests.waiting import eventually

needs_fuse = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="mounts FUSE: needs root")


class FakeDeployment:
    def __init__(self, pid: int) -> None:
        self.power = ByProcess(lambda: {"device": pid})


def scene(pid: int, host: Host | None = None) -> Scene:
    """A deployment with only what host faults use; `host` has the exported directory (default: this host)."""
    made = object.__new__(Scene)
    made.deployment = cast(Any, FakeDeployment(pid))
    made._outside = lambda: Outside(host or LocalHost(), "/")
    return made


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_paused_process_goes_on_also_when_it_is_abandoned() -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        pause = Pause()
        data = pause.begin(scene(process.pid), random.Random(1))
        assert 1 <= data["seconds"] <= 8
        eventually(lambda: state(process.pid) in "T")
        assert pause.tick(time.monotonic()) is None
        assert pause.tick(time.monotonic() + 9) == {}
        pause.undo()
        eventually(lambda: state(process.pid) in "S")
        pause.undo()
    finally:
        process.kill()
        process.wait()


def test_the_probe_looks_on_until_every_workload_rests() -> None:
    jobs: list[Any] = [mock.Mock(held=False, done=False, job=mock.Mock(share=share)) for share in (0, 0, 1)]
    probe = mock.Mock(held=False)
    made = Scene(mock.Mock(), mock.Mock(), lambda: jobs, lambda: mock.Mock(inside=probe), mock.Mock(), mock.Mock())
    made.hold()
    jobs[0].held = True
    assert not made.at_rest()
    probe.hold.assert_not_called()
    jobs[1].held = True
    assert not made.at_rest() and not made.at_rest()
    probe.hold.assert_called_once()
    probe.held = True
    assert made.at_rest()


def test_busy_leaves_no_process() -> None:
    busy = Busy()
    busy.begin(scene(0), random.Random(1))
    pids = [p.pid for p in busy._processes]
    assert len(pids) == (os.cpu_count() or 1) + 1
    busy.undo()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("fault", [Busy, DropCaches])
def test_faults_of_this_host_are_skipped_where_another_one_serves(fault: type[Busy | DropCaches]) -> None:
    elsewhere = mock.Mock(local=False)
    assert fault().begin(scene(0, elsewhere), random.Random(1)) == {"skipped": "the share is served on another machine"}


def test_a_file_takes_all_room_and_no_more(tmp_path: Path) -> None:
    limit = 3 << 20
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match="File too large"):
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            try:
                fill(tmp_path / "filler")
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
    finally:
        signal.signal(signal.SIGXFSZ, old)
    assert (tmp_path / "filler").stat().st_size <= limit


def test_promises_are_what_the_steps_did(tmp_path: Path) -> None:
    """The tree that the host expects after a number of steps equals the result of really making those steps."""
    made, count = promises.steps(7, {}), 200
    directory = os.open(tmp_path, os.O_RDONLY)
    for _ in range(count):
        promises.perform(str(tmp_path), directory, next(made))
    os.close(directory)
    sure = promised(7, count)
    assert len(sure) > 20
    assert {None, bytes} == {type(v) if v is not None else None for v in sure.values()}
    for name, content in sure.items():
        path = tmp_path / name
        assert (path.read_bytes() if path.exists() else None) == content


def test_steps_that_nobody_heard_of_break_no_promise(tmp_path: Path) -> None:
    made = promises.steps(7, {})
    directory = os.open(tmp_path, os.O_RDONLY)
    for _ in range(100 + UNHEARD):
        promises.perform(str(tmp_path), directory, next(made))
    os.close(directory)
    for name, content in promised(7, 100).items():
        path = tmp_path / name
        assert (path.read_bytes() if path.exists() else None) == content


def test_torn_files_are_seen(tmp_path: Path) -> None:
    (tmp_path / "w0").write_bytes(b"A" * 1000)
    assert storm.torn(str(tmp_path), 2) == ""
    (tmp_path / "w1").write_bytes(b"B" * 500 + b"A" + b"B" * 499)
    assert "w1" in storm.torn(str(tmp_path), 2)


def injector(journal: Journal, names: list[str], seed: int = 1) -> Injector:
    plan = Plan(
        target="local",
        jobs=[Job(instance="tree", workload="tree")],
        seed=seed,
        faults=names,
        fault_seconds=100.0,
    )
    return Injector(journal, plan, lambda: scene(0), View(io.StringIO()))


def test_every_fault_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    names = list(faults.KINDS)
    with journals.create(tmp_path / "run", {}) as journal:
        journal.begin_session({})
        made = injector(journal, names)
        order = [made.chosen(n) for n in range(3 * len(names))]
        assert order == [injector(journal, names).chosen(n) for n in range(3 * len(names))]
        assert order != [injector(journal, names, seed=2).chosen(n) for n in range(3 * len(names))]
    for turn in range(3):
        assert sorted(order[turn * len(names) : (turn + 1) * len(names)]) == sorted(names)


def test_what_a_killed_session_left_is_recorded_as_undone(tmp_path: Path) -> None:
    with journals.create(tmp_path / "run", {}) as journal:
        journal.begin_session({})
        journal.event("fault", n=0, name="pause")
        journal.event("undone", n=0)
        journal.event("fault", n=1, name="busy")
        journal.begin_session({})
        made = injector(journal, ["pause", "busy"])
        assert [e.data["n"] for e in journal.events("undone")] == [0, 1]
        assert made._number == 2


class Failing:
    """A fault with one call that fails."""

    silent = False
    undone = 0

    def __init__(self, where: str) -> None:
        self._where = where

    def _maybe(self, where: str) -> None:
        if where == self._where:
            raise OSError(5, "Input/output error")

    def begin(self, scene: Scene, rng: random.Random) -> dict[str, Any]:
        self._maybe("begin")
        return {}

    def tick(self, now: float) -> dict[str, Any] | None:
        self._maybe("tick")
        return {}

    def undo(self) -> None:
        Failing.undone += 1
        self._maybe("undo")


@pytest.mark.parametrize("where", ["begin", "tick", "undo"])
def test_a_fault_whose_call_fails_is_undone_and_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    kind = faults.Kind("pause", "x", lambda: Failing(where))
    monkeypatch.setitem(faults.KINDS, "pause", kind)
    Failing.undone = 0
    with journals.create(tmp_path / "run", {}) as journal:
        journal.begin_session({})
        made = injector(journal, ["pause"])
        for _ in range(1 if where == "begin" else 2):
            made.tick(time.monotonic() + 1000)
        (undone,) = journal.events("undone")
        assert "Input/output error" in undone.data["failed"]
        assert Failing.undone == 1


@pytest.mark.parametrize(
    ("name", "kind", "root", "said"),
    [
        ("pauze", "qemu", True, "did you mean 'pause'"),
        ("pause", "attach", True, "needs a server that the suite may stop"),
        ("power-cut", "local", True, "needs a guest that can be killed"),
        ("full", "uml", True, "needs an export with a file system of its own, and a target of kind uml has none"),
        ("full", "qemu", False, "needs root"),
        ("xyz", "qemu", True, "use one of busy"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(name: str, kind: str, root: bool, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        faults.check([name], kinds()[kind], root)


@needs_fuse
def test_pause_and_signals_on_a_real_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends when both faults were undone and a later iteration passed, however long that takes."""
    monkeypatch.setattr(Signals, "configuration", lambda *_: {"seconds": 3, "seed": 1, "processes": 4})

    def both(record: Record) -> bool:
        ends = [d.end for d in record.faults() if d.end is not None]
        return len(ends) >= 2 and any(i.outcome and i.at > ends[1] for i in record.iterations)

    facts, _ = soaked(
        tmp_path,
        options={"steps": 20},
        iterations=1_000_000,
        faults=["signals", "pause"],
        fault_seconds=1.0,
        until=both,
    )
    assert {d.name for d in facts.record.faults()[:2]} == {"signals", "pause"}
    # trends of such a short run say nothing, and they depend on the load of the machine
    failed = [j for j in facts.judgements if j.verdict == "fail" and not j.name.startswith(("slowdown", "leak"))]
    assert not failed
    seen = {j.name: j.verdict for j in facts.judgements}
    assert seen["iterations of tree"] == seen["target"] == seen["console"] == "pass", facts.judgements


class Silence:
    """The guest does not answer from its start until after the end of the run's time."""

    until = 0.0
    asked: ClassVar[list[float]] = []

    def __init__(self) -> None:
        self.silent = True

    def begin(self, scene: Scene, rng: random.Random) -> dict[str, Any]:
        Silence.until = time.monotonic() + 5
        return {}

    def tick(self, now: float) -> dict[str, Any] | None:
        self.silent = now < Silence.until
        return None if self.silent else {}

    def undo(self) -> None:
        self.silent = False


def test_a_silent_guest_is_asked_to_finish_once_it_answers_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier, a run that ended within a pause asked the paused guest to finish, and abandoned it after 45 s."""
    real = InsideProgram.finish_soon

    def asked(self: InsideProgram) -> None:
        Silence.asked.append(time.monotonic())
        real(self)

    monkeypatch.setattr(InsideProgram, "finish_soon", asked)
    monkeypatch.setitem(faults.KINDS, "pause", faults.Kind("pause", "x", Silence))
    made = Plan(
        target="local",
        jobs=jobs_of(["tree"], 1, {"tree": {"steps": 10}}),
        seconds=4.0,
        seed=1,
        sample_seconds=0.5,
        faults=["pause"],
        fault_seconds=1.0,
    )
    with journals.create(tmp_path / "run", made.model_dump()) as journal:
        Runner(journal, View(io.StringIO())).run()
        assert [e.data["why"] for e in journal.events("finished")] == ["time is up"]
    assert Silence.asked and min(Silence.asked) >= Silence.until
