"""The workflows of ci/: the tests run the script that all of them call, and the steps of each file, as a CI does."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
import yaml

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
    """Run ci/assay9.sh with a suite whose run writes `record` and ends with that status."""
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


@dataclass(frozen=True, slots=True)
class Step:
    """What a CI runs in a shell for a workflow: arguments, environment, directory."""

    command: str
    environment: dict[str, str]
    place: str = "."


def github() -> tuple[list[Step], str]:
    """The steps, and the directory from which the results are uploaded."""
    given = yaml.safe_load((CI / "github.yml").read_text())["jobs"]["conformance"]["steps"]
    names = {"${{ vars.ASSAY9_URL }}": "$ASSAY9_URL", "${{ github.sha }}": "abc"}  # what GitHub puts there
    steps = [
        Step(one["run"], {name: names.get(value, value) for name, value in one.get("env", {}).items()})
        for one in given
        if "run" in one
    ]
    (upload,) = [one["with"]["path"] for one in given if "upload-artifact" in one.get("uses", "")]
    return steps, f"{upload}junit.xml"


def gitlab() -> tuple[list[Step], str]:
    job = yaml.safe_load((CI / "gitlab.yml").read_text())["virtio-9p"]
    steps = [Step(line, job["variables"]) for line in [*job["before_script"], *job["script"]]]
    return steps, job["artifacts"]["reports"]["junit"]


def jenkins() -> tuple[list[Step], str]:
    text = (CI / "Jenkinsfile").read_text()
    environment = dict(re.findall(r"""^ {8}(ASSAY9\w*) = ['"](.*)['"]$""", text, re.MULTILINE))
    commands = re.findall(r"""\bsh '(.*)'|\bscript: '(.*)'""", text)
    (junit,) = re.findall(r"testResults: '(.*)'", text)
    return [Step(one or other, environment) for one, other in commands], junit


def buildbot(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Step], str]:
    """The steps that are added to a Buildbot factory; a module stands in for `buildbot.plugins`."""
    found: list[Step] = []

    def command(**given: Any) -> Step:
        environment = {name: value if isinstance(value, str) else "abc" for name, value in given.get("env", {}).items()}
        return Step(shlex.join(given["command"]), environment, given.get("workdir", "build"))

    steps = SimpleNamespace(
        Git=lambda **given: Step(f'git clone "$ASSAY9_URL" {given["workdir"]}', {}),
        ShellCommand=command,
        DirectoryUpload=lambda **given: Step(f"test -d {given['workersrc']}", {}, "build"),
    )
    util = MagicMock()
    monkeypatch.setitem(sys.modules, "buildbot", ModuleType("buildbot"))
    monkeypatch.setitem(sys.modules, "buildbot.plugins", cast("Any", SimpleNamespace(steps=steps, util=util)))
    runpy.run_path(str(CI / "buildbot.py"))["add_conformance"](SimpleNamespace(addStep=found.append))
    return found, "build/results/*/junit.xml"


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml", "Jenkinsfile", "buildbot.py"])
@pytest.mark.parametrize(("stands", "status"), [("pass", 0), ("fail", 1)])
def test_the_steps_of_every_workflow_run_in_a_shell(
    name: str, stands: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of the file runs unchanged; it clones a repository of the test, with a fake suite."""
    read: dict[str, Callable[[], tuple[list[Step], str]]] = {
        "github.yml": github,
        "gitlab.yml": gitlab,
        "Jenkinsfile": jenkins,
        "buildbot.py": partial(buildbot, monkeypatch),
    }
    steps, junit = read[name]()
    suite, tools, place = (tmp_path / one for one in ("suite", "tools", "work"))
    for one in (suite / "ci", tools, place / "build"):
        one.mkdir(parents=True)
    made = tmp_path / "made"
    kept(made, "qemu", run(A=stands, B="pass"))
    shutil.copy(CI / "assay9.sh", suite / "ci")
    fake = FAKE.format(made=made, words=tmp_path / "words", status=status, python=sys.executable)
    (suite / "fake").write_text(fake)
    (suite / "setup.sh").write_text("mkdir -p .venv/bin && cp fake .venv/bin/assay9 && chmod +x .venv/bin/assay9\n")
    (suite / "setup.sh").chmod(0o755)
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "suite"]):
        subprocess.run(["git", *words], cwd=suite, check=True)
    programs = {"apt-get": "", "make": "", "sudo": 'case $1 in --*) shift;; esac\nexec "$@"'}
    for file, text in [*((tools / one, text) for one, text in programs.items()), (place / "configure", "")]:
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
    kept(tmp_path / "old", "qemu", run(A="pass", B="pass"))
    for top in (place, place / "build"):
        (top / "tests").mkdir()
        called(baseline, "save", "qemu", top / "tests/virtio-9p.baseline.json", results=tmp_path / "old")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ASSAY9", "GITHUB"))}
    monkeypatch.setenv("ASSAY9_URL", str(suite))
    environment |= {"PATH": f"{tools}:{os.environ['PATH']}", "ASSAY9_URL": str(suite), "PYTHONPATH": str(CI.parent)}
    ended = 0
    for step in steps:
        done = subprocess.run(
            ["bash", "-e", "-c", step.command],
            env=environment | {name: os.path.expandvars(value) for name, value in step.environment.items()},
            cwd=place / step.place,
            capture_output=True,
            text=True,
            check=False,
        )
        ended = done.returncode or ended
        assert not done.returncode or "assay9.sh" in step.command, (step, done.stdout + done.stderr)
    assert ended == status
    said = (tmp_path / "words").read_text()
    assert said.startswith("qemu --results results --build-id ") and "--qemu build/qemu-system-x86_64" in said
    for file in place.glob(junit):
        assert len(ET.parse(file).findall(".//failure")) == status
        text = (file.parent / "summary.md").read_text()
        assert "unexpected failure" in text if status else "nothing unexpected" in text
    assert [*place.glob(junit)], junit
