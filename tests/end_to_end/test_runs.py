"""Whole runs as a user starts them: exit status, record, what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from conformance.evidence.record import Record, load_run

FAMILY = "mode"
CASE = "chmod_changes_only"


def assay9(*arguments: str, cwd: Path, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "assay9", *arguments], cwd=cwd, capture_output=True, text=True,
                          timeout=timeout, check=False)  # fmt: skip


def record_of(cwd: Path) -> Record:
    return load_run(cwd / "results" / "latest")


def test_a_run_on_this_host_passes_and_leaves_a_record(tmp_path: Path) -> None:
    done = assay9("run", "local", "--family", FAMILY, "-k", CASE, "--jobs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    record = record_of(tmp_path)
    assert record.results
    assert {r.verdict for r in record.results} == {"pass"}
    assert all(r.comparisons for r in record.results if r.case_id == "MODE-001")


@pytest.mark.guest
def test_a_run_on_a_booted_guest_shows_that_messages_crossed(tmp_path: Path) -> None:
    done = assay9("run", "qemu", "--family", FAMILY, "-k", CASE, "--jobs", "1", "--mount", "cache=none", cwd=tmp_path)
    record = record_of(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    chmod = [r for r in record.results if r.case_id == "MODE-001"]
    assert chmod
    for result in chmod:
        assert result.verdict == "pass"
        assert result.message_counts["Tsetattr"] >= 1
        assert " 9p " in result.mount_shown
        assert any(call.control_result is not None for call in result.calls)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "qmeu"], "did you mean 'qemu'?"),
        (["run", "local", "--mount", "cahce=none"], "did you mean cache?"),
        (["run", "qemu", "--qemu", "/nonexistent/qemu"], "/nonexistent/qemu"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = assay9(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_misspelt_key_in_a_target_is_named_with_the_nearest(tmp_path: Path) -> None:
    target = tmp_path / "mine.toml"
    target.write_text('kind = "local"\ntitle = "x"\n[machine]\nmemory_mbb = 1\n')
    done = assay9("run", str(target), cwd=tmp_path)
    assert done.returncode == 2
    assert "memory_mbb" in done.stderr
    assert "did you mean 'memory_mb'?" in done.stderr


@pytest.mark.guest
@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_nothing_and_keeps_its_results(
    tmp_path: Path, how: signal.Signals, status: int
) -> None:
    command = [sys.executable, "-m", "assay9", "run", "qemu", "--family", FAMILY, "--jobs", "1"]
    run = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    family = psutil.Process(run.pid)
    deadline = time.monotonic() + 600
    while not any(p.stat().st_size for p in tmp_path.glob("results/*/cases-*.jsonl")):
        assert run.poll() is None, run.stdout.read() if run.stdout else ""
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = family.children(recursive=True)
    assert any("qemu" in p.name() for p in children)
    os.kill(run.pid, how)
    assert run.wait(60) == status
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, alive
    record = record_of(tmp_path)
    assert record.interrupted
    assert record.results
