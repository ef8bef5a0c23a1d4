"""Whole runs as a user starts them: exit status, record, leftovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from conformance.evidence.models import Record
from conformance.evidence.record import load_run
from guests.machines.uml import kernel
from tests.end_to_end.moments import ordinary_signals
from tests.evidence.reading import read_back
from tests.waiting import complaint, eventually

FAMILY = "mode"
CASE = "chmod_changes_only"


def assay9(*arguments: str, cwd: Path, timeout: float = 1800) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "assay9", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def record_of(cwd: Path) -> Record:
    return load_run(cwd / "results" / "latest")


def test_a_run_on_this_host_passes_and_leaves_a_record(tmp_path: Path) -> None:
    done = assay9("run", "local", "--family", FAMILY, "-k", CASE, "--jobs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    record = record_of(tmp_path)
    assert record.results
    assert {r.verdict for r in record.results} == {"pass"}
    assert all(r.comparisons for r in record.results if r.case_id == "MODE-001")


def test_a_case_is_found_by_its_id(tmp_path: Path) -> None:
    done = assay9("run", "local", "--family", FAMILY, "-k", "MODE-001", "--jobs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {r.case_id for r in record_of(tmp_path).results} == {"MODE-001"}


def test_a_name_that_no_case_has_is_reported_and_status_2(tmp_path: Path) -> None:
    done = assay9("run", "local", "--family", FAMILY, "-k", "MODE-999", "--jobs", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert (
        "no case of vfs, property, sequence in family mode matches -k 'MODE-999': did you mean 'MODE-0" in done.stderr
    )


def test_a_usage_error_leaves_no_run_and_latest_where_it_is(tmp_path: Path) -> None:
    assay9("run", "local", "--family", FAMILY, "-k", "MODE-002", "--jobs", "1", cwd=tmp_path)
    latest = (tmp_path / "results" / "latest").resolve()
    for wrong in (["-k", "MODE-999"], ["--nosuchoption"]):
        assert assay9("run", "local", "--family", FAMILY, "--jobs", "1", *wrong, cwd=tmp_path).returncode == 2
        assert (tmp_path / "results" / "latest").resolve() == latest
    assert [p.name for p in (tmp_path / "results").glob("2*")] == [latest.name]


def test_what_failed_last_is_kept_for_each_target(tmp_path: Path) -> None:
    """--lf runs only the case that failed on this target; on another target it runs everything."""
    (tmp_path / "other.toml").write_text('kind = "local"\ntitle = "the same under another name"\n')
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "saboteur.py").write_text((Path(__file__).parent / "saboteur.py").read_text())

    def ran(target: str, *more: str) -> set[str]:
        assay9(
            "run",
            target,
            "--family",
            FAMILY,
            "-k",
            "MODE-002 or MODE-003",
            "--mount",
            "cache=none",
            "--jobs",
            "1",
            *more,
            cwd=tmp_path,
        )
        return {r.case_id for r in record_of(tmp_path).results}

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(broken))
        patched.setenv("A9_SABOTAGE", "fixture:MODE-003")
        assert ran("local", "-p", "saboteur") == {"MODE-002", "MODE-003"}
    assert ran("other.toml", "--lf") == {"MODE-002", "MODE-003"}
    assert ran("local", "--lf") == {"MODE-003"}
    (failed,) = tmp_path.glob("results/.pytest_cache/local/v/cache/lastfailed")
    failed.write_text("[5]")
    failed.with_name("nodeids").write_text("5")
    assert ran("local", "--lf") == {"MODE-002", "MODE-003"}, "what is damaged is forgotten"


@pytest.mark.guest
def test_a_run_on_a_booted_guest_shows_that_messages_crossed(tmp_path: Path) -> None:
    # An earlier run of the same suite may have left the results of the control runs in the cache.
    options = ["--jobs", "1", "--mount", "cache=none", "--control", "always"]
    done = assay9("run", "qemu", "--family", FAMILY, "-k", CASE, *options, cwd=tmp_path)
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
        (["run", "local", "--mount", "cahce=none"], "did you mean 'cache'?"),
        (["run", "qemu", "--qemu", "/nonexistent/qemu"], "/nonexistent/qemu"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = assay9(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(complaint(done.stderr)) == 1


def test_a_misspelt_key_in_a_target_is_named_with_the_nearest(tmp_path: Path) -> None:
    target = tmp_path / "mine.toml"
    target.write_text('kind = "qemu"\ntitle = "x"\n[machine]\nmemory_mbb = 1\n')
    done = assay9("run", str(target), cwd=tmp_path)
    assert done.returncode == 2
    assert "memory_mbb" in done.stderr
    assert "did you mean 'memory_mb'?" in done.stderr


def started_run(cwd: Path, target: str = "qemu", jobs: int = 1) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """A run in a guest whose first case has finished, and its processes."""
    if target == "reference-uml":
        kernel.ensure_kernel(print)  # minutes of a compiler, which the wait below is not for
    run = subprocess.Popen(
        [sys.executable, "-m", "assay9", "run", target, "--layer", "vfs", "--jobs", str(jobs)],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=ordinary_signals,  # noqa: PLW1509 - system calls only
    )
    begun = eventually(
        lambda: run.poll() is not None or any(p.stat().st_size for p in cwd.glob("results/*/cases-*.jsonl"))
    )
    assert begun and run.poll() is None
    children = psutil.Process(run.pid).children(recursive=True)
    assert any("qemu" in p.name() for p in children) or target != "qemu"
    return run, children


@pytest.mark.guest
@pytest.mark.parametrize(
    ("target", "jobs", "how", "status"),
    [
        ("qemu", 1, signal.SIGINT, 130),
        pytest.param("reference-uml", 1, signal.SIGTERM, 143, marks=pytest.mark.long),
        pytest.param("reference-uml", 2, signal.SIGINT, 130, marks=pytest.mark.long),
        ("reference-uml", 2, signal.SIGHUP, 143),
    ],
)
def test_an_interrupted_run_leaves_nothing_and_keeps_its_results(
    tmp_path: Path, private_runtime: Path, target: str, jobs: int, how: signal.Signals, status: int
) -> None:
    """However often the signal comes, guests are ended, verdicts are kept, and other cases are reported as not run."""
    run, children = started_run(tmp_path, target, jobs)
    limit = time.monotonic() + 300
    while run.poll() is None and time.monotonic() < limit:
        os.kill(run.pid, how)
        time.sleep(0.2)
    assert run.wait(1) == status
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, alive
    assert not list(private_runtime.rglob("*.json")), "something of the run is left"
    record = record_of(tmp_path)
    assert record.interrupted and record.interrupted_by == how.name
    assert any(r.ran for r in record.results)
    assert any(r.reason == f"not run: interrupted by {how.name}" for r in record.results)
    read_back((tmp_path / "results" / "latest").resolve())


@pytest.mark.guest
def test_after_kill_9_nothing_runs_and_the_next_run_cleans_up_and_says_so(
    tmp_path: Path, private_runtime: Path
) -> None:
    """The run has its own runtime directory: another run of this user would clean up before ours, and report it."""
    run, children = started_run(tmp_path)
    os.killpg(run.pid, signal.SIGKILL)  # kill its worker, too, which would clean up
    run.wait(60)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, alive
    killed = record_of(tmp_path)
    assert killed.interrupted
    assert killed.results
    done = assay9("run", "local", "--family", FAMILY, "-k", CASE, "--jobs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left by an earlier run" in done.stderr


@pytest.mark.guest
def test_workers_clean_up_when_the_run_is_killed(tmp_path: Path, private_runtime: Path) -> None:
    run, children = started_run(tmp_path, "reference-uml", jobs=2)
    run.kill()
    run.wait(60)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, alive
    assert not list(private_runtime.rglob("*.json")), "something of the run is left"
    _, counts, status = read_back((tmp_path / "results" / "latest").resolve())
    assert status == 3
    assert counts["error"] and counts["pass"]
