"""`assay9 bisect` on a real git repository; a script that judges the build takes the place of the suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from assay9.bisect import BAD, GOOD, SKIP, Search, found, verdict
from conformance.errors import InfrastructureError, UsageError

RUNNER = """
import json, pathlib, sys
results = pathlib.Path(sys.argv[sys.argv.index("--results") + 1])
stands = pathlib.Path({device!r}).read_text().strip()
(results / "latest").mkdir(parents=True)
(results / "latest" / "summary.json").write_text(json.dumps({{"cases": {{"NODE-005": stands}}}}))
"""
STANDS = ["pass", "pass", "pass", "pass", "known", "known", "known", "known"]


def git(repo: Path, *words: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    done = subprocess.run(["git", "-C", str(repo), *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Make eight commits; the third does not build, and from the fifth on the case fails, as a profile declares."""
    repo = tmp_path / "device"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    for number, stands in enumerate(STANDS):
        (repo / "device.c").write_text(f"{stands}\n")
        (repo / "number").write_text(str(number))
        (repo / "broken").write_text("yes" if number == 2 else "no")
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", f"commit {number}")
        git(repo, "tag", f"v{number}")
    return repo


def search(repo: Path, tmp_path: Path, *, fixed: bool = False, build: str = "") -> Search:
    device = tmp_path / "built"
    runner = tmp_path / "runner.py"
    runner.write_text(RUNNER.format(device=str(device)))
    build = build or f"grep -q no broken && cp device.c {device}"
    return Search(str(repo), build, [sys.executable, str(runner)], str(tmp_path / "results"), fixed)


def test_the_commit_that_broke_a_case_is_found_past_one_that_does_not_build(repo: Path, tmp_path: Path) -> None:
    said = found(search(repo, tmp_path), "v0", "v7")
    assert git(repo, "rev-parse", "v4") in said and "that fails" in said
    assert git(repo, "rev-parse", "--abbrev-ref", "HEAD") == "main", "the checkout is left as it was"


def test_the_commit_that_fixed_a_case_is_found(repo: Path, tmp_path: Path) -> None:
    for number, stands in enumerate(reversed(STANDS)):
        (repo / "device.c").write_text(f"{stands}\n{number}\n")
        git(repo, "commit", "-q", "-a", "-m", f"later {number}")
        git(repo, "tag", f"w{number}")
    one_word = f"head -1 device.c > {tmp_path / 'built'}"
    assert git(repo, "rev-parse", "w4") in found(search(repo, tmp_path, fixed=True, build=one_word), "w0", "w7")


def test_what_cannot_be_searched_is_refused(repo: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no commit v99"):
        found(search(repo, tmp_path), "v0", "v99")
    (repo / "device.c").write_text("changed\n")
    with pytest.raises(UsageError, match="local changes"):
        found(search(repo, tmp_path), "v0", "v7")
    git(repo, "checkout", "-q", "device.c")
    with pytest.raises(InfrastructureError, match="v0 does not build"):
        found(search(repo, tmp_path, build="false"), "v0", "v7")
    between = f"grep -q '[07]' number && cp device.c {tmp_path / 'built'}"
    with pytest.raises(InfrastructureError, match="found no commit"):
        found(search(repo, tmp_path, build=between), "v0", "v7")
    assert git(repo, "rev-parse", "--abbrev-ref", "HEAD") == "main"


@pytest.mark.parametrize(
    ("good", "bad", "fixed", "refusal"),
    [
        ("v0", "v3", False, "the case holds at v3"),
        ("v5", "v7", False, "the case fails at v5"),
        ("v4", "v7", True, "the case fails at v7"),
        ("v0", "v7", True, "the case holds at v0"),
    ],
)
def test_both_ends_are_tried_and_the_checkout_is_left(
    repo: Path, tmp_path: Path, good: str, bad: str, fixed: bool, refusal: str
) -> None:
    with pytest.raises(UsageError, match=refusal):
        found(search(repo, tmp_path, fixed=fixed), good, bad)
    assert git(repo, "rev-parse", "--abbrev-ref", "HEAD") == "main"


@pytest.mark.parametrize(
    ("stands", "status"),
    [
        (["pass", "pass"], GOOD),
        (["fixed"], GOOD),
        (["pass", "known"], BAD),
        (["fail", "error"], BAD),
        (["unstable"], BAD),
        (["pass", "error"], SKIP),
        (["undrivable"], SKIP),
        ([], SKIP),
    ],
)
def test_a_commit_is_judged_by_its_cases_alone(stands: list[str], status: int) -> None:
    assert verdict(stands, fixed=False)[1] == status
    other = {GOOD: BAD, BAD: GOOD, SKIP: SKIP}
    assert verdict(stands, fixed=True)[1] == other[status]
