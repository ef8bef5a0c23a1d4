"""`assay9 plan` and `assay9 merge`: a matrix of runs as shards for any number of machines, and their records as one.

There is no engine here: a shard is a command, which CI matrices, Slurm arrays and people start like any other.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from conformance.errors import InfrastructureError, UsageError
from conformance.evidence.gathering import first_problem
from conformance.evidence.host import CHECKOUT, commit_of
from conformance.evidence.models import Record
from conformance.evidence.record import RunWriter, find_run
from conformance.gating.gate import exit_status
from conformance.gating.merge import merged
from conformance.options import durations_option, results_option
from conformance.reports.cli import read_runs, unchanged
from conformance.reports.terminal import summary
from conformance.reports.write import write_reports
from conformance.sut.load import load
from conformance.tables import read_as
from guests.host.activity import shown
from guests.host.files import content, put


class Job(BaseModel):
    """A job of a matrix: each of its lists multiplies it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str
    shards: int = Field(1, ge=1, le=100_000)
    images: list[str] = []
    security_models: list[str] = []
    mounts: list[str] = []
    """`--mount` of each; "all" is --mounts all."""
    options: list[str] = []
    """Further words of `assay9 run`, for each."""
    tags: list[str] = []
    """What a machine must have: kvm, root, ssh:host."""


class Soak(BaseModel):
    """The same soak on several machines, each with its own seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str
    machines: int = Field(1, ge=1, le=10_000)
    options: list[str] = []
    """Words of `assay9 soak`: --for, --workload, ..."""
    tags: list[str] = []


class Matrix(BaseModel):
    """MATRIX.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: list[Job] = []
    soak: list[Soak] = []

    @model_validator(mode="after")
    def _something(self) -> Matrix:
        if not (self.job or self.soak):
            raise ValueError("it has neither a [[job]] nor a [[soak]]")
        return self


class _Shard(BaseModel):
    """A shard of a plan: words of `assay9 run`, or of `assay9 soak run`."""

    run: list[str] = []
    shard: str = ""
    soak: list[str] = []

    @model_validator(mode="after")
    def _one(self) -> _Shard:
        if bool(self.soak) == bool(self.run and self.shard):
            raise ValueError("a shard is a run or a soak")
        return self


class _Plan(BaseModel):
    """The part of a plan's file that a shard needs."""

    kind: Literal["assay9-plan"]
    suite: str
    durations: dict[str, float]
    shards: dict[str, _Shard]


@click.command()
@click.argument("matrix", type=click.Path(path_type=Path))
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path))
@durations_option
@results_option()
def plan(matrix: Path, plan_file: Path, runs: tuple[str, ...], results: Path) -> None:
    """Write the shards of a MATRIX (TOML) to the file PLAN (JSON), each with its command and tags.

    \b
    [[job]]
    target = "qemu"
    shards = 4
    images = ["debian12", "debian13"]
    security_models = ["passthrough", "mapped-xattr"]
    tags = ["root"]

    \b
    [[soak]]
    target = "qemu"
    machines = 20
    options = ["--for", "24h"]

    `assay9 run --plan PLAN --shard NAME` runs one; `assay9 merge RUN...` joins the shards of a run,
    `assay9 soak merge RUN...` soaks. `assay9 fleet run MATRIX` does all of it on a dask cluster.
    """
    made = planned(read_matrix(matrix), durations_of(runs, results))
    try:
        put(plan_file, as_bytes(made))
    except OSError as e:
        raise InfrastructureError(f"{plan_file} cannot be written: {e.strerror}", "name another PLAN") from None
    click.echo(f"{plan_file}: {len(made['shards'])} shards")


def durations_of(runs: Sequence[str], results: Path) -> dict[str, float]:
    """Case id with parameters -> how long it took in these runs."""
    return {r.id: r.seconds for run in read_runs(runs, results) for r in run.results}


def read_matrix(path: Path) -> Matrix:
    """The matrix of a file. Raises UsageError."""
    return read_as(Matrix, path, "a matrix is a TOML file, see `assay9 plan --help`")


def planned(matrix: Matrix, durations: dict[str, float]) -> dict[str, Any]:
    """The plan: every combination of every job, in its number of shards. Raises UsageError for an unknown target."""
    shards: dict[str, dict[str, Any]] = {}
    for job in matrix.job:
        load(job.target)
        for image, model, mount in itertools.product(
            job.images or [""], job.security_models or [""], job.mounts or [""]
        ):
            words = [job.target, *job.options]
            words += [f"--image={image}"] if image else []
            words += [f"--security-model={model}"] if model else []
            words += ["--mounts=all"] if mount == "all" else [f"--mount={mount}"] if mount else []
            base = "-".join(filter(None, [job.target, image, model, mount.replace("=", "").replace(",", "-")]))
            for number in range(1, job.shards + 1):
                name = f"{base}-{number}"
                if name in shards:
                    raise UsageError(
                        f"the matrix has {base} twice: leave one out, or add an option that distinguishes them"
                    )
                shards[name] = {"job": base, "run": words, "shard": f"{number}/{job.shards}", "tags": job.tags}
    for soak in matrix.soak:
        load(soak.target)
        base = f"soak-{soak.target}"
        if f"{base}-1" in shards:
            raise UsageError(f"the matrix has {base} twice: give one of them more machines")
        for number in range(1, soak.machines + 1):
            shards[f"{base}-{number}"] = {"job": base, "soak": [soak.target, *soak.options], "tags": soak.tags}
    return {"kind": "assay9-plan", "suite": commit_of(CHECKOUT), "durations": durations, "shards": shards}


def as_bytes(made: dict[str, Any]) -> bytes:
    """The plan as the content of its file."""
    return (json.dumps(made, indent=1) + "\n").encode()


def command_of(plan_file: Path, name: str) -> list[str]:
    """The arguments of `assay9` for a shard: `run ...` or `soak run ...`.

    Raises UsageError for a plan of another commit, or no such shard.
    """
    again = f"`assay9 plan MATRIX.toml {plan_file}` makes one"
    try:
        plan = _Plan.model_validate_json(content(plan_file))
    except OSError as e:
        raise UsageError(f"--plan: {plan_file} cannot be read: {e.strerror}; {again}") from None
    except ValidationError as e:
        raise UsageError(f"--plan: {plan_file} is not a plan ({first_problem(e)}): {again}") from None
    here = commit_of(CHECKOUT)
    if plan.suite != here:
        raise UsageError(
            f"--plan: {plan_file} is from suite commit {plan.suite or 'none'}, here is {here or 'none'}: make it again"
        )
    if name not in plan.shards:
        some = ", ".join(list(plan.shards)[:4])
        raise UsageError(f"--plan: {plan_file} has no shard {name}: it has {some}, ...")
    shard = plan.shards[name]
    if shard.soak:
        return ["soak", "run", *shard.soak]
    return ["run", *shard.run, "--durations-of", str(plan_file), "--shard", shard.shard]


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@results_option()
def merge(runs: tuple[str, ...], results: Path) -> None:
    """Merge the shards of a run into one run, with reports; the exit status is that run's.

    Refused in one line: shards of another suite commit, target, options or plan, a missing or duplicate shard, a record
    that was changed or cannot be read.
    """
    record, run_dir = join([find_run(name, results) for name in runs], results)
    click.echo(summary(record, run_dir), nl=False)
    raise SystemExit(exit_status(record))


def join(directories: Sequence[Path], results: Path) -> tuple[Record, Path]:
    """One run from its shards' directories, with reports. Raises UsageError for a mismatch."""
    with shown("joining the records"):
        whole = merged(
            [unchanged(directory) for directory in directories], [directory.name for directory in directories]
        )
        writer = RunWriter.create(results.absolute(), whole.environment)
        try:
            record = writer.copy(whole)
        except BaseException:
            shutil.rmtree(writer.run_dir, ignore_errors=True)
            raise
        write_reports(writer.run_dir)
    return record, writer.run_dir
