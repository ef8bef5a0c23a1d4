"""`assay9 bisect`: find the commit that broke (or fixed) a case, by `git bisect run`.

For each commit git runs this module as a program: it builds, runs the case, and ends with 0 for good, 1 for bad, 125
for a commit that cannot be built or judged, and 128, which ends the search, for wrong usage.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from conformance.errors import InfrastructureError, UsageError
from conformance.options import results_option
from conformance.sut.command_line import WORD

GOOD, BAD, SKIP, STOP = 0, 1, 125, 128
_HELD = frozenset({"pass", "guest", "fixed"})
_BROKEN = frozenset({"fail", "known", "varies", "unstable"})


@dataclass(frozen=True, slots=True)
class Search:
    """What each step needs to know."""

    repo: str
    build: str
    run: list[str]
    """The command that runs the case, without --results."""
    results: str
    fixed: bool
    """The search is for the commit after which the case holds."""


@click.command()
@click.argument("good", type=WORD)
@click.argument("bad", type=WORD)
@click.option(
    "--repo", type=click.Path(path_type=Path), required=True, help="The checkout of the device's sources: ~/src/qemu."
)
@click.option(
    "--build",
    type=WORD,
    required=True,
    metavar="CMD",
    help="The command that builds it there, e.g. 'make -C build -j8'.",
)
@click.option(
    "-k", "expression", type=WORD, required=True, metavar="CASE", help="The case, as `assay9 run -k` takes it."
)
@click.option("--target", type=WORD, default="qemu", show_default=True, help="The target to run it on.")
@click.option(
    "--qemu",
    type=WORD,
    default="build/qemu-system-x86_64",
    show_default=True,
    metavar="PATH",
    help="The program that the build makes, below the checkout.",
)
@click.option("--mount", type=WORD, metavar="OPTIONS", help="Mount options, as `assay9 run --mount` takes them.")
@click.option("--fixed", is_flag=True, help="Look for the commit that fixed the case: it fails at GOOD, holds at BAD.")
@results_option()
def bisect(
    good: str,
    bad: str,
    repo: Path,
    build: str,
    expression: str,
    target: str,
    qemu: str,
    mount: str | None,
    fixed: bool,
    results: Path,
) -> None:
    """Find the commit between GOOD and BAD of --repo at which a case began to fail.

    GOOD and BAD are tried first: the case must hold at the one and fail at the other. Then `git bisect run` builds each
    commit and judges it by the case's own verdict, a declared failure counting as one. A commit that does not build,
    or whose run has no verdict, is skipped. The checkout must be clean; it is left as it was. Exit status 0 where a
    commit was found.

    \b
    assay9 bisect v9.0.0 v9.1.0 --repo ~/src/qemu --build 'make -C build -j8' -k NODE-005
    """
    repo = repo.expanduser().absolute()
    run = [sys.executable, "-m", "assay9", "run", target, f"--qemu={repo / qemu}", "-k", expression, "--jobs=1"]
    run += [f"--mount={mount}"] if mount else []
    search = Search(str(repo), build, run, str(results.absolute() / "bisect"), fixed)
    click.echo(found(search, good, bad))


def found(search: Search, good: str, bad: str) -> str:
    """Search; what git says of the commit that it found. Raises UsageError where there is nothing to search, and
    InfrastructureError where `good` or `bad` cannot be judged, or no commit in between.
    """
    for name in (good, bad):
        if _git(search, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").returncode != 0:
            raise UsageError(f"{search.repo} has no commit {name}: name a tag, branch or hash of that checkout")
    if _git(search, "status", "--porcelain", "--untracked-files=no").stdout.strip():
        raise UsageError(f"{search.repo} has local changes: commit or stash them first")
    place = Path(search.results)
    place.mkdir(parents=True, exist_ok=True)
    config = place / "search.json"
    config.write_text(json.dumps(asdict(search)), encoding="utf-8")
    started = _git(search, "bisect", "start", "--term-old=before", "--term-new=after", bad, good, "--")
    try:
        if started.returncode != 0:
            raise UsageError(f"git bisect: {_line(started.stderr or started.stdout)}")
        program = [sys.executable, "-m", "assay9.bisect", str(config)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        _try_ends(search, good, bad)
        done = subprocess.run(
            ["git", "-C", search.repo, "bisect", "run", *program],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            check=False,
        )
        said = _git(search, "bisect", "log").stdout
    finally:
        _git(search, "bisect", "reset")
    first = [
        line.removeprefix("# first after commit: ") for line in said.splitlines() if "# first after commit" in line
    ]
    if done.returncode != 0 or not first:
        last = _line("\n".join(done.stdout.splitlines()[-3:]))
        raise InfrastructureError(f"git bisect found no commit: {last}", f"the log of each step is in {place}")
    return f"the first commit {'that holds' if search.fixed else 'that fails'}: {first[0]}\nlogs: {place}"


def _try_ends(search: Search, good: str, bad: str) -> None:
    """Judge both ends, which `git bisect` believes without a look, and check out again what it chose to begin with."""
    middle = _git(search, "rev-parse", "HEAD").stdout.strip()
    for name, wanted in ((good, GOOD), (bad, BAD)):
        moved = _git(search, "checkout", "--quiet", "--detach", name)
        if moved.returncode != 0:
            raise UsageError(f"git checkout {name}: {_line(moved.stderr)}")
        status = step(search)
        if status == SKIP:
            remedy = f"name another commit, or see {search.results}"
            raise InfrastructureError(f"{name} does not build, or its run has no verdict", remedy)
        if status == STOP:
            raise UsageError(f"the run is refused: see {search.results}")
        if status != wanted:
            seen = "holds" if (status == GOOD) != search.fixed else "fails"
            raise UsageError(f"there is nothing to search: the case {seen} at {name}; name a commit where it does not")
    _git(search, "checkout", "--quiet", "--detach", middle)


def step(search: Search) -> int:
    """Build the commit that is checked out, and judge it."""
    commit = _git(search, "rev-parse", "HEAD").stdout.strip()
    place = Path(search.results) / commit[:12]
    place.mkdir(parents=True, exist_ok=True)
    with (place / "build.log").open("wb") as log:
        if subprocess.call(search.build, shell=True, cwd=search.repo, stdout=log, stderr=log) != 0:
            return _report(commit, "does not build", SKIP)
    with (place / "run.log").open("wb") as log:
        status = subprocess.call([*search.run, "--results", str(place)], stdout=log, stderr=log)
    if status == 2:
        return _report(commit, f"the run is refused, see {place / 'run.log'}", STOP)
    try:
        cases = json.loads((place / "latest" / "summary.json").read_bytes())["cases"]
    except (OSError, ValueError, KeyError, TypeError):
        return _report(commit, "has no record", SKIP)
    return _report(commit, *verdict(list(cases.values()), fixed=search.fixed))


def verdict(stands: Sequence[str], *, fixed: bool) -> tuple[str, int]:
    """What a commit is by the standings of its cases, in a word and as an exit status."""
    if any(one in _BROKEN for one in stands):
        return "fails", GOOD if fixed else BAD
    if stands and all(one in _HELD for one in stands):
        return "holds", BAD if fixed else GOOD
    return "has no verdict", SKIP


def _report(commit: str, what: str, status: int) -> int:
    print(f"assay9: {commit[:12]} {what}", file=sys.stderr, flush=True)
    return status


def _git(search: Search, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", search.repo, *arguments], capture_output=True, text=True, errors="replace", check=False
    )


def _line(text: str) -> str:
    return " ".join(text.split())[:300] or "it does not say why"


if __name__ == "__main__":
    raise SystemExit(step(Search(**json.loads(Path(sys.argv[1]).read_bytes()))))
