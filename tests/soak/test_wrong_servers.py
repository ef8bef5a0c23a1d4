"""Deliberately wrong servers between inside and outside: each is found, and a correct server passes.

Rates are scaled so that seconds suffice. benchmarks/results/soak.md has the real rates and how long they took
(`benchmarks/soak_wrong_servers.py`).
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from soak import journal as journals
from soak.inside import common
from soak.judges import ACCEPTABLE
from soak.report.write import write
from tests.soak.runs import Killing, judged, judgement, plan, soaked

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/fuse"),
    reason="mounts a file system in user space in a namespace: needs root",
)


def test_a_right_server_passes(tmp_path: Path) -> None:
    facts, _ = soaked(tmp_path, options={"steps": 20}, iterations=2, accept_unknown=list(ACCEPTABLE))
    assert facts.verdict == "pass", facts.judgements


def test_a_leak_of_a_kilobyte_a_request(tmp_path: Path) -> None:
    facts, _ = soaked(
        tmp_path,
        "--leak",
        "1024",
        options={"steps": 20},
        iterations=1_000_000,
        until=judged("leak: memory of the device", "fail"),
    )
    found = judgement(facts, "leak: memory of the device")
    assert found.verdict == "fail", found
    assert facts.verdict == "fail"


def test_a_flipped_byte(tmp_path: Path) -> None:
    facts, _ = soaked(tmp_path, "--flip", "5000", options={"steps": 20}, iterations=4)
    assert judgement(facts, "iterations").verdict == "fail"
    assert "content" in judgement(facts, "iterations").reason
    trouble = facts.troubles[0]
    assert trouble.artefacts
    assert "--first" in trouble.replay


def test_a_lost_rename(tmp_path: Path) -> None:
    facts, _ = soaked(tmp_path, "--lose-rename", "20", options={"steps": 40}, iterations=3)
    assert judgement(facts, "iterations").verdict == "fail"


def test_slower_by_a_share_an_iteration(tmp_path: Path) -> None:
    """The server slows by 30 % an iteration until the judge finds it: eventually no load of the machine hides it.

    test_judges_power tries how many iterations a judge needs on an idle and on a busy host.
    """
    facts, _ = soaked(
        tmp_path,
        "--slower",
        "0.3",
        options={"steps": 6, "workers": 1},
        iterations=1_000_000,
        until=judged("slowdown: iterations", "fail"),
    )
    found = judgement(facts, "slowdown: iterations")
    assert found.verdict == "fail", found
    assert found.figures["share_per_step"] > 0.05, found
    samples = [s for s in facts.record.samples if "host.waiting" in s.values]
    assert len(samples) > 8 and all(s.values["host.cpus"] >= 1 for s in samples), "the host was watched beside it"


@pytest.mark.parametrize(("number", "verdict"), [(signal.SIGKILL, "unknown"), (signal.SIGSEGV, "fail")])
def test_a_server_that_somebody_kills_is_not_failed_for_it(
    tmp_path: Path, number: signal.Signals, verdict: str
) -> None:
    """A crash is the server's own fault, SIGKILL is not; both end the server, and the iterations that see it, alike."""
    made = plan("--leak", "0", options={"steps": 20}, iterations=1_000_000)
    with journals.create(tmp_path / "run", made.model_dump()) as journal:
        Killing(journal, number).run()
        facts = write(journal)
    assert facts.verdict == verdict, facts.judgements
    said = [j.reason for j in facts.judgements if "was ended by SIGKILL" in j.reason]
    assert bool(said) == (verdict == "unknown"), facts.judgements


def test_the_seed_alone_decides_what_a_workload_does() -> None:
    assert common.generator(1, "tree", 2).random() == common.generator(1, "tree", 2).random()
    assert common.generator(1, "tree", 2).random() != common.generator(1, "tree", 3).random()
