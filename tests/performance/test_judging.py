"""Ratios, cliffs and the gate, on records made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from assay9.cli import cli
from conformance.errors import UsageError
from conformance.evidence.models import Environment
from conformance.performance.judging import cliffs, judge, to_control
from conformance.performance.page import page, sentence
from conformance.performance.record import CONTROL, OTHER, RECORD, SHARE, Bench, Measured, Subject, load_bench
from conformance.performance.text import text

NOISE = (1.0, 1.02, 0.98, 1.01, 0.99, 1.03, 0.97, 1.0, 1.02, 0.98, 1.01, 0.99, 1.0, 1.01, 0.99)


def measured(name: str, share: float, other: float | None = None, **more: object) -> Measured:
    seconds = {
        SHARE: [share * n for n in NOISE],
        CONTROL: [1e-6 * n for n in reversed(NOISE)],
    }
    if other is not None:
        seconds[OTHER] = [other * n for n in NOISE[3:] + NOISE[:3]]
    return Measured(
        name=name,
        work="stat",
        group="metadata",
        unit="call",
        mount="cache=none",
        seconds=seconds,
        latency={SHARE: [share] * 4},
        processor={SHARE: share},
        **more,
    )


def bench(measures: Sequence[Measured], *, against: str = "", whole: bool = True) -> Bench:
    subjects = {SHARE: Subject(title="ours"), CONTROL: Subject(title="the guest's own")}
    return Bench(
        environment=Environment(target="qemu", started=datetime(2026, 1, 1, tzinfo=UTC)),
        against=against,
        rounds=len(NOISE),
        seconds=0.1,
        subjects=subjects | ({OTHER: Subject(title="theirs")} if against else {}),
        measures=list(measures),
        whole=whole,
    )


def test_a_ratio_is_how_many_times_as_long_one_unit_takes() -> None:
    found = to_control(measured("stat", 1e-4))
    assert found is not None and found.low < 100 < found.high and found.high / found.low < 1.1


@pytest.mark.parametrize(
    ("share", "slower", "status"), [(1.0, 0.2, 0), (1.15, 0.2, 0), (1.5, 0.2, 1), (1.5, 0.6, 0), (0.5, 0.2, 0)]
)
def test_the_gate_fails_what_is_surely_slower_than_the_other(share: float, slower: float, status: int) -> None:
    measures = [measured(f"stat {n}", 1.0, 1.0) for n in range(40)] + [measured("rename", share, 1.0)]
    found = judge(bench(measures, against="theirs"), None, slower)
    assert found.status == status
    assert [one.name for one in found.slower] == (["rename"] if status else [])


@pytest.mark.parametrize(("now", "status"), [(1.0, 0), (1.15, 0), (1.5, 1)])
def test_the_gate_compares_with_a_baseline_by_the_ratios_to_the_guests_own(now: float, status: int) -> None:
    assert judge(bench([measured("stat", now)]), bench([measured("stat", 1.0)])).status == status


def test_the_gate_has_no_verdict_where_it_cannot_say() -> None:
    one = measured("stat", 1.0, 1.0)
    assert judge(bench([measured("stat", 1.0)])).status == 3
    assert judge(bench([one], against="theirs", whole=False)).status == 3
    lost = Measured(name="b", work="b", group="data", unit="MiB", mount="cache=none", failed="the guest has no git")
    assert "1 could not be measured" in judge(bench([one, lost], against="theirs")).why
    assert judge(bench([one]), bench([one, measured("read", 1.0)])).status == 3
    few = one.model_copy(update={"seconds": {name: seconds[:5] for name, seconds in one.seconds.items()}})
    assert "8 rounds or more" in judge(bench([few], against="theirs")).why


def test_what_is_slower_wins_over_what_is_missing() -> None:
    assert judge(bench([measured("stat", 2.0, 1.0)], against="theirs", whole=False)).status == 1


def test_a_cliff_is_where_one_unit_costs_more_than_twice_its_neighbour() -> None:
    curve = [
        measured(f"readdir files={at}", cost, series="readdir by files", at=at, axis="files")
        for at, cost in ((10, 1.0), (100, 1.1), (1000, 1.2), (10000, 5.0))
    ]
    found = cliffs(bench(curve))
    assert [(one.at, one.beside) for one in found] == [("files 10,000", "1,000")]
    assert "times as long as at 1,000" in str(found[0])
    small = [
        measured(f"read msize={at}", cost, series="read by msize", at=at, axis="msize")
        for at, cost in ((8192, 6.0), (131072, 1.0))
    ]
    assert [one.at for one in cliffs(bench(small))] == ["msize 8,192"]


def test_the_page_and_the_table_show_every_measure() -> None:
    curve = [
        measured(f"stat open={at}", 1e-4 * (at + 1), 1e-4, series="stat by open", at=at, axis="open") for at in (0, 9)
    ]
    lost = Measured(name="map <b>", work="b", group="data", unit="MiB", mount="cache=mmap", failed="EINVAL & more")
    made = bench([*curve, lost], against="theirs")
    shown = page(made)
    assert "stat open=9" in shown and "map &lt;b&gt;" in shown and "EINVAL &amp; more" in shown
    assert "<svg" in shown and "stat by open" in shown and "src=" not in shown
    assert "slower in 1" in sentence(made)
    said = text(made)
    assert "stat open=9" in said and "not measured: EINVAL & more" in said and "cliff:" in said


def test_what_was_left_out_is_no_failure_unless_the_baseline_has_it() -> None:
    one = measured("stat", 1.0, 1.0)
    left = Measured(name="fio", work="fio", group="data", unit="MiB", mount="m", left_out="the guest has no fio")
    assert judge(bench([one, left], against="theirs")).status == 0
    assert judge(bench([one, left]), bench([one, left])).status == 0
    lost = judge(bench([one, left]), bench([one, measured("fio", 1.0)]))
    assert lost.status == 3 and "1 of the baseline were not measured" in lost.why
    assert "left out: the guest has no fio" in page(bench([left])) and "left out: the guest" in text(bench([left]))


def test_the_cost_of_a_message_is_that_of_the_unit_by_what_crossed() -> None:
    one = measured("stat", 3e-4, messages={SHARE: {"Twalk": 1, "Tgetattr": 0.5}}, processor_by_message={SHARE: 2e-5})
    assert one.crossed(SHARE) == 1.5 and one.crossed(CONTROL) is None
    assert one.by_message(SHARE) == pytest.approx([seconds / 1.5 for seconds in one.seconds[SHARE]])
    said = text(bench([one]))
    assert "200 µs" in said and "20.0 µs" in said and "Twalk 1, Tgetattr 0.5" in said
    shown = page(bench([one]))
    assert "Cost of a message" in shown and "Twalk 1, Tgetattr 0.5" in shown
    cached = measured("stat", 3e-4, messages={SHARE: {}})
    assert cached.by_message(SHARE) == [] and "none crossed" in page(bench([cached]))
    assert "Cost of a message" not in page(bench([measured("stat", 1.0)]))


def test_a_subject_that_was_left_out_alone_has_no_ratio() -> None:
    one = measured("stat", 3e-4)
    one.seconds.pop(CONTROL)
    found = bench([one.model_copy(update={"without": {CONTROL: "no room"}})])
    assert "without guest&#39;s own: no room" in page(found) and "stat" in text(found)


def kept(directory: Path, made: Bench) -> Path:
    directory.mkdir(parents=True)
    (directory / RECORD).write_text(made.model_dump_json())
    return directory


def test_the_command_gate_judges_benchmarks(tmp_path: Path) -> None:
    now = kept(tmp_path / "20260102T000000Z-bench-qemu", bench([measured("stat", 2.0, 1.0)], against="theirs"))
    then = kept(tmp_path / "20260101T000000Z-bench-qemu", bench([measured("stat", 2.0)]))

    def gate(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["gate", "bench-qemu", "--results", str(tmp_path), *words])
        return done.exit_code, done.output

    status, said = gate()
    assert status == 1 and "slower: stat: 2.0" in said
    assert gate("--slower", "150")[0] == 0
    assert gate("--baseline", str(then))[0] == 0
    assert load_bench(now).against == "theirs"


def test_a_damaged_record_is_refused_in_one_line(tmp_path: Path) -> None:
    run = kept(tmp_path / "a", bench([]))
    (run / RECORD).write_text('{"schema_version": 1}')
    with pytest.raises(UsageError, match="is damaged"):
        load_bench(run)
    (run / RECORD).write_text('{"schema_version": 99}')
    with pytest.raises(UsageError, match="newer version"):
        load_bench(run)
    with pytest.raises(UsageError, match="is not a benchmark"):
        load_bench(tmp_path)
