"""`assay9 run`: check the request, then pass it to pytest."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click

from assay9.plan import command_of
from assay9.tries import repeated, retried, unexpected_of, words_of
from conformance.catalogue import applications
from conformance.errors import UsageError
from conformance.evidence.record import find_run, load_run
from conformance.options import results_option
from conformance.pytest_session.selection import write_only
from conformance.pytest_session.shards import shard_of
from conformance.run.request import Request
from conformance.sut.command_line import WORD, GroupedCommand, options_of_kinds, under
from conformance.sut.layers import default_layers
from conformance.sut.load import load
from conformance.sut.registry import flags, kind_of
from guests.host.activity import shown
from soak.plan import seconds_of

USAGE = 2
_NO_HYPOTHESIS = ("-p", "no:hypothesispytest")
"""It has no part in a run, and costs a second at its start and end."""

select, share, of_run = under("Which cases"), under("The share"), under("The run")


@click.command(cls=GroupedCommand, context_settings={"ignore_unknown_options": True})
@click.argument("target", type=WORD, required=False)
@select(
    "--layer",
    "layers",
    multiple=True,
    type=WORD,
    help="Only this layer: vfs, property, sequence, wire, ring, application (repeatable). Default: all layers of the "
    "target but application, or those that its TOML names.",
)
@select(
    "--family",
    "families",
    multiple=True,
    type=WORD,
    help="Only this family of cases, e.g. open (repeatable).",
)
@select(
    "-k",
    "expression",
    type=WORD,
    metavar="EXPRESSION",
    help="Only cases whose ids or names match, as in pytest: OPEN-004, 'rename and not dir'.",
)
@select(
    "--all",
    "every",
    is_flag=True,
    help="Include the cases that the guest's kernel decides alone: no server can fail them. -k selects them, too.",
)
@select(
    "--rerun",
    type=WORD,
    metavar="RUN",
    help="Run the unexpected cases of that run again, with its target, mounts and options. Leave TARGET out.",
)
@select(
    "--only",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Only the cases of a JSON list of [id, mount]: what --rerun writes.",
)
@select(
    "--application",
    "own_applications",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A program of yours for --layer application: a TOML file, see docs/applications.md (repeatable).",
)
@select(
    "--shard",
    type=WORD,
    metavar="I/N",
    help="Run only the I-th of N parts of the cases; `assay9 merge` joins them. With --plan: the name of a shard.",
)
@select(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Run the shard that --shard names, of this file of `assay9 plan`. Leave TARGET out.",
)
@select(
    "--durations-of",
    "durations_of",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Balance --shard by this plan.",
)
@share(
    "--mount",
    "mounts",
    multiple=True,
    metavar="OPTIONS",
    help="Mount options, e.g. cache=mmap,msize=8192,access=user,posixacl (repeatable).",
)
@share(
    "--mounts",
    "matrix",
    type=click.Choice(["default", "all"]),
    default="default",
    show_default=True,
    help="all: every cache mode, msize, access mode and version.",
)
@share(
    "--control",
    type=click.Choice(["first", "always", "never"]),
    help="first (the default): a case must hold on the guest's native file system before it runs on the share. What an "
    "earlier run has seen to hold there, with the same guest and sources, is believed; always: each time.",
)
@options_of_kinds
@of_run(
    "--jobs",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Guests or servers that run at a time, or agents in the one guest of attach. Default: one per core, at most "
    "four; of attach, one.",
)
@results_option(of_run)
@of_run(
    "--build-id",
    type=WORD,
    metavar="TEXT",
    help="The change under test, for the record: a commit, the number of a gate or build.",
)
@of_run("--base", type=WORD, metavar="TEXT", help="What that change is based on, for the record.")
@of_run(
    "--limit",
    type=WORD,
    metavar="TIME",
    help="Start no case later than 30m, 2h, ... after the start; cases that did not run are errors.",
)
@of_run("--order", type=WORD, metavar="SEED", help="Random order of cases, the same for the same seed.")
@of_run(
    "--repeat",
    type=click.IntRange(2, 1000),
    metavar="N",
    help="Run all N times, each in another random order: a case with different results is unstable.",
)
@of_run(
    "--retry-failed",
    is_flag=True,
    help="Run failed cases once more. Both results are shown; a case that then passes is unstable, not passed.",
)
@of_run("--allure", is_flag=True, help="Write allure-results, too: several files for each case.")
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def run(
    target: str | None,
    layers: tuple[str, ...],
    families: tuple[str, ...],
    expression: str | None,
    every: bool,
    mounts: tuple[str, ...],
    matrix: str,
    control: str | None,
    jobs: int | None,
    results: Path,
    allure: bool,
    build_id: str | None,
    base: str | None,
    rerun: str | None,
    only: Path | None,
    own_applications: tuple[Path, ...],
    shard: str | None,
    plan_file: Path | None,
    durations_of: Path | None,
    limit: str | None,
    order: str | None,
    repeat: int | None,
    retry_failed: bool,
    pytest_args: tuple[str, ...],
    options: Mapping[str, Any],
) -> None:
    """Run the cases on TARGET and write the evidence.

    TARGET is a name that `assay9 targets` lists, or the path of a TOML file of your own. Options that are not
    listed here are pytest's: -x, --lf, -v, --co, --durations=10, ...

    Everything is checked before anything starts: a name that does not exist ends with exit status 2 and one line.
    """
    _instead(rerun, plan_file, shard, results, [*([target] if target else []), *pytest_args])
    if own_applications:
        bring(own_applications, layers)
    target = _named(target)
    seconds = seconds_of(limit, "--limit") if limit else None
    if repeat and retry_failed:
        raise click.UsageError("--repeat and --retry-failed exclude each other: each runs cases again in its own way")
    with shown("checking the command line"):
        request = Request(
            target=load(target),
            options=options,
            layers=layers,
            families=families,
            mounts=mounts,
            matrix=matrix == "all",
            control=control,
            expression=expression,
            jobs=jobs,
            results=results,
        )
        refuse_unknown(target, pytest_args)
        number = _checked(request)
    arguments = [*_requested(request), f"--jobs={number}"]
    arguments += _words({"--build-id": build_id, "--base": base, "--only": only, "--shard": shard, "--allure": allure})
    arguments += _words({"--durations-of": durations_of, "--all": every})
    if repeat:
        raise SystemExit(repeated([target, *arguments, *pytest_args], results, repeat, seconds))
    if retry_failed:
        raise SystemExit(retried([target, *arguments, *pytest_args], results, seconds))
    arguments += _words({"--target": target, "--results": results, "--order": order, "--limit": seconds})
    raise SystemExit(_pytest([*_folders(request), *arguments], pytest_args))


def _named(target: str | None) -> str:
    """The target. Raises click.UsageError where there is none, or an option of pytest in its place."""
    if target is None:
        raise click.UsageError("give a TARGET: `assay9 targets` lists them")
    if target.startswith("-"):
        raise click.UsageError(f"give a TARGET before options of pytest: assay9 run TARGET {target}")
    return target


def _checked(request: Request) -> int:
    """How many workers run the request. Raises UsageError or InfrastructureError if it is impossible."""
    from conformance.run import preflight  # noqa: PLC0415 - 240 ms, which an unknown target need not wait for

    alone = preflight.check(request)
    import conformance.plugin  # noqa: F401, PLC0415 - 580 ms, as above

    if alone:
        return 1
    return request.jobs or (1 if kind_of(request.target).one_guest else default_jobs())


def _folders(request: Request) -> list[str]:
    """The folders of the cases. A layer is one: pytest needs a second to collect each that is not wanted."""
    from conformance.catalogue import index  # noqa: PLC0415 - 30 ms, as above

    return [str(index.CASES / layer) for layer in request.layers or default_layers(request.target, request.options)]


def _requested(request: Request) -> list[str]:
    """The request as arguments of pytest with the suite's plugin, but for target, jobs and results."""
    known = flags()
    named: dict[str, object] = {"--layer": request.layers, "--family": request.families, "--mount": request.mounts}
    named |= {known[name].flag.name: value for name, value in request.options.items()}
    named |= {"--mounts": "all" if request.matrix else None, "--control": request.control}
    return [*_words(named), *(["-k", request.expression] if request.expression else [])]


def _words(options: Mapping[str, object]) -> list[str]:
    """Options as arguments of a command line: one for each value, a flag alone if it is true."""
    words = []
    for name, value in options.items():
        each = value if isinstance(value, tuple) else (value,)
        words += [name if one is True else f"{name}={one}" for one in each if one]
    return words


def _instead(rerun: str | None, plan: Path | None, shard: str | None, results: Path, more: Sequence[str]) -> None:
    """Run the command of an earlier run or of a plan, if one of them is requested, and end. Raises UsageError."""
    if rerun is not None:
        again(rerun, results, more)
    if plan is not None:
        if shard is None:
            raise click.UsageError("--plan needs --shard NAME: the file lists the names")
        _of_plan(command_of(plan, shard), ["--results", str(results), *more])
    if shard is not None:
        shard_of(shard)


def _of_plan(words: Sequence[str], more: Sequence[str]) -> NoReturn:
    """Run a shard of a plan: a part of a run, or a soak."""
    sys.argv = [sys.argv[0], *words, *more]  # the record's command is quoted for a shell
    if words[0] == "run":
        run.main([*words[1:], *more], prog_name="assay9 run", standalone_mode=False)
    else:
        from soak.cli import soak  # noqa: PLC0415 - 300 ms, which a run need not wait for

        soak.main([*words[1:], *more], prog_name="assay9 soak", standalone_mode=False)
    raise SystemExit(0)


def bring(files: Sequence[Path], layers: Sequence[str]) -> None:
    """Add the user's applications, for this process and its children. Raises UsageError."""
    if applications.LAYER not in layers:
        raise UsageError(f"--application is for --layer {applications.LAYER}, which is not selected: add it")
    os.environ[applications.VARIABLE] = os.pathsep.join(str(file.absolute()) for file in files)
    applications.applications.cache_clear()
    applications.applications()


def again(rerun: str, results: Path, more: Sequence[str]) -> NoReturn:
    """Run the unexpected cases of a run again, by the arguments of its own command."""
    record = load_run(find_run(rerun, results))
    words = words_of(record)
    only = results / f"rerun-{find_run(rerun, results).name}.json"
    write_only(unexpected_of(record), only)
    words = [*words, "--only", str(only), "--results", str(results), *more]
    sys.argv = [sys.argv[0], "run", *words]  # the record's command is quoted for a shell
    run.main(words, prog_name="assay9 run", standalone_mode=False)
    raise SystemExit(0)


def _pytest(arguments: list[str], more: tuple[str, ...]) -> int:
    import pytest  # noqa: PLC0415 - 120 ms, and only here needed
    from _pytest import config  # noqa: PLC0415 - as above

    from conformance.run import preflight  # noqa: PLC0415 - 240 ms, as above

    def say(e: pytest.UsageError, file: TextIO) -> None:
        """Replaces pytest's own, which prints a usage text of several lines."""
        click.echo(f"assay9: {_wrong(e)}", err=True)

    config.print_usage_error = say
    with preflight.vouch():
        status = int(pytest.main([*arguments, *_NO_HYPOTHESIS, "-q", "--no-header", "--tb=no", "-rN", *more]))
    return USAGE if status == pytest.ExitCode.USAGE_ERROR else status


def refuse_unknown(target: str, words: Sequence[str]) -> None:
    """Refuse options that neither the suite nor pytest has, before `--gest` is taken for a --guest that is missing.

    Raises UsageError.
    """
    if not any(word.startswith("-") for word in words):
        return
    import pytest  # noqa: PLC0415 - 120 ms, and only here needed
    from _pytest import config  # noqa: PLC0415 - as above

    try:
        config._prepareconfig([f"--target={target}", *_NO_HYPOTHESIS, *words])._ensure_unconfigure()
    except pytest.UsageError as error:
        raise UsageError(_wrong(error)) from None


def _wrong(error: Exception) -> str:
    """The error in pytest's message."""
    said = next((str(text) for text in error.args if text), "pytest does not accept these options")
    _, _, wrong = said.rpartition(": error: ")
    lines = [line for line in wrong.splitlines() if not line.startswith(("  inifile:", "  rootdir:"))]
    return " ".join(" ".join(lines).split())[:400]


def default_jobs() -> int:
    """One guest per core, at most four."""
    return max(1, min(4, os.cpu_count() or 1))
