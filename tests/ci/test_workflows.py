"""The workflows of ci/: the script that all of them call, run in a shell as a CI does; each file calls it alike."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from conformance.reports.cli import baseline
from tests.evidence.test_baseline import called, kept, run

CI = Path(__file__).parents[2] / "ci"
FAKE = """#!/bin/sh
# `run` puts a record that was made before into its place; all else is the suite's own
if [ "$1" = run ]; then
    shift; echo "$@" > {words}
    while [ $# -gt 0 ]; do [ "$1" != --results ] || results=$2; shift; done
    [ -e {made} ] || exit 2
    cp -r {made} "$results"; exit {status}
fi
exec {python} -m assay9 "$@"
"""


def job(tmp_path: Path, record: str, status: int, **environment: str) -> subprocess.CompletedProcess[str]:
    """ci/assay9.sh with a suite whose run leaves `record`, and ends with that status."""
    made = tmp_path / "made"
    if record:
        kept(made, "qemu", run(A=record, B="pass"))
    fake = tmp_path / "assay9"
    fake.write_text(FAKE.format(made=made, words=tmp_path / "words", status=status, python=sys.executable))
    fake.chmod(0o755)
    given = {
        **os.environ,
        "ASSAY9": str(fake),
        "ASSAY9_RESULTS": str(tmp_path / "results"),
        "PYTHONPATH": str(CI.parent),
    }
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        given.pop(name, None)
    words = [str(CI / "assay9.sh"), "qemu", "--limit", "45m"]
    return subprocess.run(words, capture_output=True, text=True, env=given | environment, cwd=tmp_path, check=False)


def test_a_failing_run_leaves_junit_and_markdown_and_annotations(tmp_path: Path) -> None:
    summary = tmp_path / "step.md"
    done = job(tmp_path, "fail", 1, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary), ASSAY9_BUILD_ID="abc")
    assert done.returncode == 1, done.stderr
    assert "::error title=A" in done.stdout
    assert "**1 unexpected failure" in summary.read_text()
    assert ET.parse(tmp_path / "results" / "latest" / "junit.xml").findall(".//failure")
    assert "--build-id abc --limit 45m" in (tmp_path / "words").read_text()


@pytest.mark.parametrize(("before", "now", "status"), [("fail", "fail", 0), ("pass", "fail", 1)])
def test_beside_a_baseline_the_gate_decides(tmp_path: Path, before: str, now: str, status: int) -> None:
    kept(tmp_path / "old", "qemu", run(A=before, B="pass"))
    file = tmp_path / "b.json"
    assert called(baseline, "save", "qemu", file, results=tmp_path / "old").exit_code == 0
    done = job(tmp_path, now, 1, ASSAY9_BASELINE=str(file))
    assert done.returncode == status, done.stdout + done.stderr
    assert "gate: exit status" in done.stdout and "::error" not in done.stdout


def test_wrong_usage_is_no_verdict(tmp_path: Path) -> None:
    assert job(tmp_path, "", 2).returncode == 2
    assert subprocess.run([CI / "assay9.sh"], capture_output=True, check=False).returncode == 2


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml", "Jenkinsfile", "buildbot.py"])
def test_every_workflow_calls_the_script_and_keeps_the_results(name: str) -> None:
    text = (CI / name).read_text()
    assert "ci/assay9.sh" in text and "qemu-system-x86_64" in text
    assert "results" in text and "ASSAY9_BUILD_ID" in text
    if name.endswith(".py"):
        compile(text, name, "exec")
