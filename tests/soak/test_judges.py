"""Judges: real faults fail, sound runs pass, and too little data gives unknown."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Mapping

import pytest

from soak import judges
from soak.journal import Event, Iteration, Outcome, Sample, Session
from soak.judges import all_of, overall
from soak.judges.record import Judgement, Record
from soak.judges.trend import blocks, trend

START = 1_800_000_000.0


def record(
    samples: int = 360,
    every: float = 10.0,
    values: dict[str, Callable[[float], float]] | None = None,
    seconds: list[float] | None = None,
    events: tuple[tuple[float, str, Mapping[str, object]], ...] = (),
    outcome: Outcome = "pass",
    **plan: object,
) -> Record:
    """A run of an hour: series are functions of time, iterations are given by their durations."""
    made = [Sample(1, START + n * every, {k: f(n * every) for k, f in (values or {}).items()}) for n in range(samples)]
    at, iterations = START, []
    for number, took in enumerate(seconds if seconds is not None else [60.0] * 30):
        iterations.append(Iteration(number, 1, "tree", number, at, at + took, outcome, took, {"ops": 1, "what": "x"}))
        at += took + 1
    happened: list[tuple[float, str, Mapping[str, object]]] = [
        (0.0, "environment", {}),
        *events,
        (samples * every, "finished", {"why": "time is up"}),
    ]
    return Record(
        {"jobs": [{"instance": "tree"}], "sample_seconds": every, **plan},
        [Session(1, START, {})],
        [Event(n, 1, START + at, kind, dict(data)) for n, (at, kind, data) in enumerate(happened)],
        iterations,
        made,
    )


LOAD: dict[str, Callable[[float], float]] = {
    "host.waiting": lambda _: 0.2,
    "host.cpus": lambda _: 2.0,
    "host.yardstick_ms": lambda _: 0.15,
    "host.cpu_pressure": lambda _: 0.1,
    "host.io_pressure": lambda _: 0.02,
}
"""The monitor's values on a host with little load."""


def of(found: list[Judgement], name: str) -> Judgement:
    return next(j for j in found if j.name.startswith(name))


def noisy(level: float, per_hour: float = 0.0, noise: float = 1.0, seed: int = 1) -> Callable[[float], float]:
    rng = random.Random(seed)
    return lambda t: level + per_hour * t / 3600 + rng.gauss(0, noise)


def test_a_leak_is_found_with_its_rate() -> None:
    found = of(all_of(record(values={"device.own_mb": noisy(100, 30), "msg.total": lambda _: 10.0})), "leak: memory of")
    assert found.verdict == "fail"
    assert found.figures["low_per_hour"] < 30 < found.figures["high_per_hour"]
    assert found.figures["low_per_hour"] > 25
    assert "KB a request" in found.reason


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_leak(seed: int) -> None:
    found = of(all_of(record(values={"device.own_mb": noisy(100, 0, 3, seed)})), "leak: memory of the device")
    assert found.verdict == "pass"


def test_what_fills_up_and_levels_off_is_no_leak() -> None:
    found = all_of(record(values={"device.own_mb": lambda t: 100 + 40 * (1 - math.exp(-t / 500))}))
    assert of(found, "leak: memory of the device").verdict == "pass"


def test_translating_the_guest_explains_some_memory_and_no_more() -> None:
    """These are numbers of six minutes of QEMU without KVM: 22.6 MB beside 220 MB of translated code."""
    code: Callable[[float], float] = lambda t: 500 + 2200 * t / 3600  # noqa: E731
    sound = all_of(record(values={"device.own_mb": noisy(177, 226, 0.2), "device.translated_mb": code}))
    assert of(sound, "leak: memory of the device").verdict == "pass"
    assert "MB of the guest's code were translated" in of(sound, "leak: memory of the device").reason
    leak = all_of(record(values={"device.own_mb": noisy(177, 450, 0.2), "device.translated_mb": code}))
    assert of(leak, "leak: memory of the device").verdict == "fail"


def test_a_slow_wave_is_no_leak() -> None:
    found = all_of(record(values={"device.own_mb": lambda t: 100 + 4 * math.sin(t / 300)}))
    assert of(found, "leak: memory of the device").verdict == "pass"
    found = all_of(record(values={"device.own_mb": lambda t: 100 + 40 * math.sin(t / 300)}))
    assert of(found, "leak: memory of the device").verdict == "unknown", "it hides a leak of what would be a fault"


def test_a_descriptor_a_minute_is_a_leak() -> None:
    assert of(all_of(record(values={"device.fds": lambda t: 30 + t // 60})), "leak: descriptors").verdict == "fail"


def test_a_restart_of_the_target_is_no_shrinking_and_no_leak() -> None:
    """Memory starts again after the restart; the two periods are not one line."""
    grown = record(
        values={"device.own_mb": lambda t: 100 if t < 1800 else 150},
        events=((1795.0, "fault", {"n": 0, "name": "power-cut"}), (1800.0, "recovered", {})),
    )
    assert of(all_of(grown), "leak: memory of the device").verdict == "pass"


@pytest.mark.parametrize("samples", [0, 1, 20])
def test_too_little_data_is_unknown(samples: int) -> None:
    values = {"device.own_mb": noisy(100, 1000), "device.fds": noisy(5, 100)}
    found = all_of(record(samples, values=values, seconds=[60] * 3))
    for name in (
        "leak: memory of the device",
        "leak: descriptors",
        "slowdown: iterations",
        "slowdown: latency of stat",
        "stall: the share",
        "messages",
    ):
        assert of(found, name).verdict == "unknown", name


@pytest.mark.parametrize("seed", range(10))
def test_one_percent_an_iteration_is_found(seed: int) -> None:
    rng = random.Random(seed)
    times = [60 * 1.01**n * rng.lognormvariate(0, 0.05) for n in range(40)]
    found = of(all_of(record(seconds=times, values=LOAD)), "slowdown: iterations")
    assert found.verdict == "fail"
    assert found.figures["share_per_step"] == pytest.approx(0.01, abs=0.004)


def test_a_slowdown_is_not_charged_to_the_share_where_nobody_looked_at_the_host() -> None:
    """A journal of an earlier version, and a kernel that does not report its load."""
    found = of(all_of(record(seconds=[60 * 1.01**n for n in range(40)])), "slowdown: iterations")
    assert (found.verdict, found.reason[:38]) == ("unknown", "how busy the host was is not recorded;")


def test_latency_that_doubles_is_found() -> None:
    found = all_of(record(values={"probe.stat_p50": lambda t: 2 * (1 + t / 3600) + (t % 7) / 10, **LOAD}))
    assert of(found, "slowdown: latency of stat").verdict == "fail"


@pytest.mark.parametrize("ended", [0, 1])
def test_a_load_that_has_not_come_round_is_compared_with_nothing(ended: int) -> None:
    """This failed earlier: a kernel build whose first iteration did not end first unpacks and then compiles."""
    values = {"probe.sync_p50": lambda t: 2 * (1 + t / 3600) + (t % 7) / 10, **LOAD}
    found = of(all_of(record(values=values, seconds=[1500.0] * ended)), "slowdown: latency of write and fsync")
    assert found.verdict == "unknown" and found.reason.startswith("tree has not come round 2 times")


def test_a_disk_that_is_waited_for_more_and_more_explains_a_slowdown() -> None:
    values = {
        **LOAD,
        "probe.sync_p50": lambda t: 2 * (1 + t / 3600) + (t % 7) / 10,
        "host.io_pressure": lambda t: 0.8 * t / 3600,
    }
    found = of(all_of(record(values=values)), "slowdown: latency of write and fsync")
    assert found.verdict == "unknown" and "waited for I/O" in found.reason


def test_a_step_is_no_slowdown_and_no_pass() -> None:
    """There was one change: of the share, or of a host whose change no monitor sees."""
    rng = random.Random(3)
    times = [60 * (1.4 if n > 18 else 1) * rng.lognormvariate(0, 0.04) for n in range(40)]
    found = of(all_of(record(seconds=times, values=LOAD)), "slowdown: iterations")
    assert found.verdict == "unknown" and found.reason.startswith("one step up explains it better")


def test_an_interval_that_allows_a_fault_is_no_pass() -> None:
    """This passed earlier: +107 % an hour, where anything between -98 % and +21,749 % was possible."""
    rng = random.Random(7)
    values = {**LOAD, "probe.stat_p50": lambda t: 2.0 * rng.lognormvariate(t / 5000, 2.0)}
    found = of(all_of(record(samples=60, values=values)), "slowdown: latency of stat")
    assert found.verdict == "unknown", found
    assert found.figures["at_most"] > found.figures["fault"] == 0.25
    assert "samples are needed" in found.reason and "a fault is +25%" in found.reason


def test_a_pass_states_what_would_have_been_a_fault() -> None:
    made = record(seconds=[60 + n % 3 for n in range(40)], values={**LOAD, "device.own_mb": noisy(100)})
    for name in ("slowdown: iterations", "leak: memory of the device"):
        found = of(all_of(made), name)
        assert found.verdict == "pass" and "a fault is" in found.reason
        assert found.figures["at_most"] <= found.figures["fault"]


def test_memory_of_this_host_is_not_the_guests() -> None:
    """On target `local` the inside kernel is this host's; earlier journals record its memory as the guest's."""
    growing = record(values={"guest.unreclaimable_mb": noisy(300, 400)})
    here = dataclasses.replace(
        growing,
        events=[
            dataclasses.replace(e, data={"target_version": "Linux 6.1"}) if e.kind == "environment" else e
            for e in growing.events
        ],
    )
    there = dataclasses.replace(
        growing,
        events=[
            dataclasses.replace(e, data={"guest_image": "debian12"}) if e.kind == "environment" else e
            for e in growing.events
        ],
    )
    assert not [j for j in all_of(here) if "kernel memory" in j.name]
    assert of(all_of(there), "leak: kernel memory of the guest").verdict == "fail"


def test_growth_that_nobody_can_exclude_is_no_pass() -> None:
    found = of(all_of(record(values={"device.own_mb": noisy(100, 0, 60)})), "leak: memory of the device")
    assert found.verdict == "unknown" and found.figures["at_most"] > found.figures["fault"]


def test_a_leak_that_the_second_half_leaves_open_is_no_pass() -> None:
    """Earlier, any second half whose interval reached zero, however wide, was reported as `levels off`."""
    found = of(
        all_of(record(values={"device.own_mb": lambda t: 100 + 30 * t / 3600 + 25 * math.sin(t / 200)})),
        "leak: memory of the device",
    )
    assert found.verdict == "unknown"


def test_a_stall_is_found_unless_a_fault_explains_it() -> None:
    def age(t: float) -> float:
        return 90.0 if 1000 <= t < 1100 else 1.0

    pause: tuple[tuple[float, str, dict[str, object]], ...] = (
        (995.0, "fault", {"n": 0, "name": "pause"}),
        (1100.0, "undone", {"n": 0}),
    )
    assert of(all_of(record(values={"probe.age": age})), "stall: the share").verdict == "fail"
    assert of(all_of(record(values={"probe.age": age}, events=pause)), "stall: the share").verdict == "pass"
    full = {"probe.age": age, **LOAD, "host.io_pressure": lambda t: 0.97 if 900 < t < 1100 else 0.1}
    found = of(all_of(record(values=full)), "stall: the share")
    assert found.verdict == "unknown" and "waited for I/O 97% of that time" in found.reason


def test_silence_while_the_suite_itself_did_not_run_is_not_the_shares() -> None:
    """The host slept, or gave the runner no processor time: samples are missing, too."""
    made = record(values={"probe.age": lambda t: 200.0 if t == 1200 else 1.0})
    slept = dataclasses.replace(made, samples=[s for s in made.samples if not START + 1000 < s.at < START + 1200])
    assert of(all_of(made), "stall: the share").verdict == "fail"
    found = of(all_of(slept), "stall: the share")
    assert found.verdict == "unknown" and "the suite itself did not run" in found.reason


def test_an_eio_is_a_finding_and_enoent_is_not() -> None:
    def once(t: float) -> float:
        return 0.1 if t == 500 else 0.0

    values: dict[str, Callable[[float], float]] = {"msg.total": lambda _: 100.0, "msg.E2": lambda _: 3.0}
    assert of(all_of(record(values=values)), "messages: errors").verdict == "pass"
    values["msg.E5"] = once
    found = of(all_of(record(values=values)), "messages: errors")
    assert (found.verdict, found.reason) == ("fail", "about 1 EIO")


@pytest.mark.parametrize(
    ("kind", "verdict"), [("oops", "fail"), ("hung-task", "fail"), ("9p", "fail"), ("memory", "pass")]
)
def test_the_console(kind: str, verdict: str) -> None:
    event = (100.0, "console", {"source": f"console: {kind}", "text": "INFO: something\nmore"})
    assert of(all_of(record(events=(event,))), "console").verdict == verdict


def test_a_failed_iteration_fails_and_a_broken_one_leaves_no_verdict() -> None:
    assert overall(all_of(record(outcome="fail"))) == "fail"
    assert overall(all_of(record(outcome="error"))) == "unknown"
    numbers = {"leaks", "slowdowns", "stalls", "messages"}
    assert overall(all_of(record(accept_unknown=numbers))) == "pass"
    assert overall(all_of(record(seconds=[], accept_unknown=numbers))) == "unknown"


@pytest.mark.parametrize("judge", ["leaks", "slowdowns", "stalls", "messages"])
def test_a_judge_that_cannot_decide_keeps_a_run_from_passing(judge: str) -> None:
    """It is unknown unless the user accepts it: nothing was sampled here."""
    others = {"leaks", "slowdowns", "stalls", "messages"} - {judge}
    found = all_of(record(accept_unknown=others))
    assert overall(found) == "unknown"
    assert {j.judge for j in found if j.verdict == "unknown" and not j.accepted} == {judge}


def test_a_target_that_died_fails() -> None:
    found = all_of(record(events=((5.0, "trouble", {"what": "the guest died"}),)))
    assert of(found, "target").verdict == "fail"


def test_a_target_that_somebody_else_ended_has_no_verdict() -> None:
    ground = (5.0, "trouble", {"source": "ground", "what": "QEMU was ended by SIGKILL"})
    found = of(all_of(record(events=(ground,))), "target")
    assert found.verdict == "unknown" and "not the target itself: QEMU was ended by SIGKILL" in found.reason
    own = (9.0, "trouble", {"source": "target", "what": "QEMU was killed by SIGSEGV"})
    found = of(all_of(record(events=(ground, own))), "target")
    assert found.verdict == "fail" and "1 times it died" in found.reason and "SIGSEGV" in found.reason


def test_waiting_for_rest_injects_nothing() -> None:
    made = record(events=((100.0, "fault", {"n": 0, "name": "remount"}), (700.0, "undone", {"n": 0, "waited": 590.0})))
    (seen,) = made.faults()
    assert (seen.begin, seen.end) == (START + 690, START + 700)


def test_a_fault_that_was_not_undone_or_found_something() -> None:
    begun = (5.0, "fault", {"n": 0, "name": "full"})
    assert of(all_of(record(events=(begun,), faults=["full"])), "fault full").verdict == "unknown"
    skipped = (9.0, "undone", {"n": 0, "skipped": "the session ended"})
    found = of(all_of(record(events=(begun, skipped), faults=["full"])), "fault full")
    assert (found.verdict, found.reason) == ("unknown", "it was never completed: the session ended")
    whole = ((20.0, "fault", {"n": 1, "name": "full"}), (25.0, "undone", {"n": 1, "found": "no space left"}))
    found = of(all_of(record(events=(begun, skipped, *whole), faults=["full"])), "fault full")
    assert (found.verdict, found.reason) == ("pass", "once, undone; 1 times not completed; no space left")
    bad = (9.0, "undone", {"n": 0, "failed": "EIO, not ENOSPC"})
    found = of(all_of(record(events=(begun, bad), faults=["full"])), "fault full")
    assert (found.verdict, found.reason) == ("fail", "1 of 1 times: EIO, not ENOSPC")


def test_a_judge_that_breaks_says_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Record) -> list[Judgement]:
        raise ZeroDivisionError

    monkeypatch.setattr(judges, "JUDGES", (broken,))
    (found,) = all_of(record())
    assert found.verdict == "unknown"
    assert overall([found]) == "unknown"


def test_gaps_between_sessions_take_no_time() -> None:
    made = record(samples=10)
    later = Record(
        made.plan,
        [*made.sessions, Session(2, START + 10_000, {})],
        made.events,
        made.iterations,
        [*made.samples, Sample(2, START + 10_050, {"x": 1.0})],
    )
    clock = later.clock()
    first = max(i.ended_at or 0 for i in made.iterations) - START
    assert clock(START + 10_050) == pytest.approx(first + 50)
    assert clock.total == pytest.approx(first + 50)


def test_the_interval_of_a_trend_holds_the_truth_as_often_as_it_says() -> None:
    rng, held = random.Random(4), 0
    for _ in range(200):
        found = trend([(float(x), 0.5 * x + rng.gauss(0, 4)) for x in range(40)], confidence=0.95)
        assert found is not None
        held += found.low <= 0.5 <= found.high
    assert 183 <= held <= 199


def test_blocks_keep_order_and_ends() -> None:
    made = blocks([(float(x), float(x)) for x in range(1000)], 50)
    assert len(made) == 50
    assert made == sorted(made)
