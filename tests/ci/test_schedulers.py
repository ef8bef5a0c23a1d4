"""What ci/ and docs/more-machines.md say about GitHub, GitLab and Slurm, as far as no service is needed.

The tests check the files against the schemas of GitHub and GitLab (as check-jsonschema ships them) and run the
documented shell lines in a shell. Programs of the tests stand in for Slurm's and run dask-jobqueue's job scripts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import dask
import pytest
import yaml

from assay9.fleet.engine import Fleet
from tests.waiting import PATIENT

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/more-machines.md").read_text()
NAMES = ["local-1", "local-2", "soak-local-1"]
SBATCH = """#!{python}
# A job is a process, and its number that process's. The script is read now: it is gone when this program has ended.
import subprocess, sys
text, said = open(sys.argv[1]).read(), open({said!r}, "a")
job = subprocess.Popen(["bash", "-c", text], start_new_session=True, stdout=said, stderr=subprocess.STDOUT)
print("Submitted batch job", job.pid)
"""
SCANCEL = """#!/bin/sh
for job in "$@"; do kill -- "-$job"; done
"""
jq = pytest.mark.skipif(shutil.which("jq") is None, reason="the documented lines need jq")


def block(language: str, word: str) -> str:
    """Return the only block of the page in this language that has the word in its first lines."""
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if word in text[:60]]
    return str(found)


def valid(file: Path, *schema: str) -> None:
    """Raise AssertionError when the file does not match the schema."""
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", *schema, str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_of_github_and_gitlab_are_valid_by_their_schemas() -> None:
    valid(ROOT / "ci/github.yml", "vendor.github-workflows")
    valid(ROOT / "ci/gitlab.yml", "vendor.gitlab-ci", "--data-transform", "gitlab-ci")


def test_the_documented_jobs_are_valid_by_the_schemas(tmp_path: Path) -> None:
    github, gitlab = tmp_path / "github.yml", tmp_path / "gitlab.yml"
    github.write_text(yaml.safe_dump({"on": "push", "jobs": yaml.safe_load(block("yaml", "# GitHub"))}))
    gitlab.write_text(block("yaml", "# GitLab"))
    valid(github, "vendor.github-workflows")
    valid(gitlab, "vendor.gitlab-ci", "--data-transform", "gitlab-ci")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a plan of three shards, and an `assay9` that records its arguments."""
    (tmp_path / "plan.json").write_text(json.dumps({"shards": {name: {} for name in NAMES}}))
    program = tmp_path / "bin" / "assay9"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/words\n')
    program.chmod(0o755)
    return tmp_path


def shards_of(place: Path, line: str, **environment: str) -> list[str]:
    """Run a line in a shell; return the shards that it started."""
    given = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", **environment}
    subprocess.run(["bash", "-eu", "-c", line], env=given, cwd=place, check=True)
    words = [one.split() for one in (place / "words").read_text().splitlines()]
    (place / "words").unlink()
    return [one[one.index("--shard") + 1] for one in words if one[0] == "run"]


@jq
def test_each_job_of_gitlab_takes_one_shard_of_the_plan(place: Path) -> None:
    lines = "\n".join(yaml.safe_load(block("yaml", "# GitLab"))["shard"]["script"])
    taken = [shards_of(place, lines, CI_NODE_INDEX=str(n), CI_NODE_TOTAL="3") for n in (1, 2, 3)]
    assert taken == [[name] for name in NAMES]


@jq
def test_each_task_of_a_slurm_array_takes_one_shard_of_the_plan(place: Path) -> None:
    script = block("sh", "# Slurm")
    taken = [shards_of(place, script, SLURM_ARRAY_TASK_ID=str(n)) for n in (1, 2, 3)]
    assert taken == [[name] for name in NAMES]


@jq
def test_the_matrix_of_github_is_the_names_of_the_plan(place: Path) -> None:
    jobs = yaml.safe_load(block("yaml", "# GitHub"))
    output = place / "output"
    for step in jobs["plan"]["steps"]:
        shards_of(place, f"{step['run']}\ntouch words; echo none >> words", GITHUB_OUTPUT=str(output))
    name, _, value = output.read_text().strip().partition("=")
    assert f"steps.plan.outputs.{name}" in jobs["plan"]["outputs"]["shards"]
    assert json.loads(value) == NAMES
    (step,) = jobs["shard"]["steps"]
    assert shards_of(place, step["run"].replace("${{ matrix.shard }}", "local-2")) == ["local-2"]


def _name(_key: str, name: str) -> str:
    return name


def test_the_documented_cluster_of_slurm_jobs_takes_shards_by_their_tags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of docs/more-machines.md works; `sbatch` starts dask-jobqueue's job script unchanged."""
    said = tmp_path / "jobs.log"
    for name, text in (("sbatch", SBATCH.format(python=sys.executable, said=str(said))), ("scancel", SCANCEL)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the function below is sent to the workers by its name
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(dask.config.config, "temporary-directory", str(tmp_path))
    monkeypatch.setenv("DASK_TEMPORARY_DIRECTORY", str(tmp_path))  # of the jobs, which have the environment of sbatch
    script = block("python", "dask_jobqueue").replace("jobs=20", "jobs=2")
    made, _, _ = script.partition("input(")
    names: dict[str, object] = {}
    exec(compile(made, "more-machines.md", "exec"), names)
    cluster = names["cluster"]
    try:
        text = cluster.job_script()  # type: ignore[attr-defined]
        assert "#SBATCH -t 02:00:00" in text and "--resources kvm=1" in text and "--nthreads 1" in text
        with Fleet(cluster.scheduler_address, 0, []) as fleet:  # type: ignore[attr-defined]
            fleet.client.wait_for_workers(2, timeout=PATIENT)
            came = sorted(fleet.each({name: ["kvm"] for name in NAMES}, _name, _lost))
            assert came == NAMES
            assert fleet.check({"x": ["kvm"]}) == [], "a job is a worker with its tags"
    finally:
        cluster.close()  # type: ignore[attr-defined]


def _lost(name: str, error: BaseException) -> str:
    raise AssertionError(f"{name}: {error}")
