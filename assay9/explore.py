"""`assay9 explore` and `assay9 replay`: random sequences of calls for any length of time, and one of them again."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from conformance.errors import InfrastructureError, UsageError
from conformance.model.step import as_case, from_replay, to_replay
from conformance.options import results_option
from conformance.run.preflight import check_results
from conformance.run.sequences import Exploration, Explorer, LinesSeen, Played, WireExploration, pairs, started
from conformance.run.start import start
from conformance.run.wire import WireRunner
from conformance.sut.asked import asked_of, check
from conformance.sut.command_line import WORD, options_of_kinds
from conformance.sut.load import load
from conformance.sut.parts.backend_table import LINES
from conformance.sut.registry import kind_of
from conformance.sut.servers.tables import ReferenceTable
from conformance.vfs.mount_options import DEFAULT, parse
from guests.host.files import content
from soak.plan import seconds_of

_BAD = frozenset({"fail", "error", "unstable"})


@click.command()
@click.argument("target", type=WORD)
@click.option("--for", "time_text", default="10m", show_default=True, metavar="TIME", help="How long: 90s, 30m, 8h.")
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0), help="The first seed; the next ones follow."
)
@click.option(
    "--steps", default=50, show_default=True, type=click.IntRange(1, 1000), help="Calls in a sequence at most."
)
@click.option(
    "--sequences", default=30, show_default=True, type=click.IntRange(1, 10_000), help="Sequences of one seed."
)
@click.option("--mount", "mount_text", default="", metavar="OPTIONS", help="Mount options, e.g. cache=mmap.")
@click.option(
    "--guide/--no-guide",
    "guided",
    default=True,
    help="Layer wire, reference server: prefer sequences that reach new lines of the server. Default: do.",
)
@results_option(what="Where replay files of failing sequences go.")
@options_of_kinds
def explore(
    target: str,
    time_text: str,
    seed: int,
    steps: int,
    sequences: int,
    mount_text: str,
    guided: bool,
    results: Path,
    options: Mapping[str, Any],
) -> None:
    """Play random sequences of calls on TARGET and on a model, seed after seed, until the time is over.

    On a target without a mounted share they are sequences of messages. A sequence that fails is shortened and printed.
    One of calls is printed as a case that can be pasted into the library, and kept as a file for `assay9 replay`. At
    the end it prints how many calls were judged, and which operations met which states.

    Exit status: 0 nothing unexpected, 1 a sequence failed, 2 usage, 3 the infrastructure failed.
    """
    seconds = seconds_of(time_text)
    check_results(results)
    failed: set[str] = set()
    with _explorer(target, mount_text, guided, options) as playing:
        begun = time.monotonic()
        for played in playing.until(begun + seconds, seed, examples=sequences, steps=steps):
            took = time.monotonic() - begun
            line = f"seed {played.name}: {played.result.verdict}; {played.calls} calls in {took:.0f} s"
            lines = f", {len(playing.lines.all)} lines of the server" if playing.lines else ""
            click.echo(f"{line}, {played.met} pairs of operation and state{lines}", err=True)
            if played.result.verdict in _BAD and played.result.reason not in failed:
                failed.add(played.result.reason)
                _show(played, target, str(getattr(playing, "mount", "")), results)
        for line in coverage(playing, time.monotonic() - begun):
            click.echo(line)
    click.echo(f"{target}: {len(failed)} different undeclared findings")
    raise SystemExit(1 if failed else 0)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("target", type=WORD, required=False)
@click.option("--mount", "mount_text", default="", metavar="OPTIONS", help="Mount options; default: those of the file.")
@options_of_kinds
def replay(file: Path, target: str | None, mount_text: str, options: Mapping[str, Any]) -> None:
    """Play the sequence of a replay FILE once more, on the target that it names or on TARGET.

    A run keeps such a file for each sequence that fails: RUN/sequences/*.json.

    Exit status: 0 it passes, or its failure is declared; 1 it fails, 2 usage, 3 the infrastructure failed.
    """
    try:
        said = json.loads(content(file))
        steps = from_replay(said)
    except OSError as error:
        raise UsageError(f"{file} cannot be read as a replay file: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{file} is not a replay file of a sequence: {error}") from None
    name = target or str(said.get("target", ""))
    if not name:
        raise UsageError(f"{file} names no target: give TARGET")
    with _on(name, mount_text or str(said.get("mount", "")), options) as playing:
        played = playing.again(steps)
    click.echo(f"{played.result.verdict}: {played.result.reason or 'every call ended as the model allows'}")
    raise SystemExit(1 if played.result.verdict in _BAD else 0)


@contextmanager
def _explorer(target: str, mount_text: str, guided: bool, options: Mapping[str, Any]) -> Iterator[Explorer]:
    """What plays on that target: on its share, or where it has none with raw messages."""
    if kind_of(load(target)).mounts:
        with _on(target, mount_text, options) as playing:
            yield playing
    elif mount_text:
        raise UsageError(f"--mount does not apply: target {target} has no mounted share")
    else:
        with at_the_wire(target, options, guided=guided) as playing:
            yield playing


@contextmanager
def at_the_wire(target: str, options: Mapping[str, Any], *, guided: bool) -> Iterator[WireExploration]:
    """A started server of that target, with nothing played yet; the reference server writes its lines down.

    Raises UsageError, InfrastructureError.
    """
    found = load(target)
    table = getattr(found, "server", None)
    if watched := isinstance(table, ReferenceTable):
        found = found.model_copy(update={"server": table.model_copy(update={"lines": True})})
    asked = asked_of(found, options, ("wire",))
    check(asked)
    with tempfile.TemporaryDirectory(prefix="assay9-explore-", ignore_cleanup_errors=True) as directory:
        runner = start(asked, Path(directory), lambda text: click.echo(text, err=True), "main", "never", "wire")
        try:
            if not isinstance(runner, WireRunner) or runner.broken is not None:
                raise runner.broken or InfrastructureError(f"{target} has no server to send messages to")
            session = runner.session
            lines = LinesSeen(session.base / LINES, session.server.pid) if watched else None
            yield WireExploration(runner, lines, guided)
        finally:
            runner.stop()


@contextmanager
def _on(target: str, mount_text: str, options: Mapping[str, Any]) -> Iterator[Exploration]:
    """A started machine of that target, with nothing played yet. Raises UsageError, InfrastructureError."""
    mount = parse(mount_text, DEFAULT) if mount_text else DEFAULT
    asked = asked_of(load(target), options, ("sequence",))
    check(asked)
    with tempfile.TemporaryDirectory(prefix="assay9-explore-", ignore_cleanup_errors=True) as directory:
        runner = start(asked, Path(directory), lambda text: click.echo(text, err=True), "main", "never", "sequence")
        try:
            yield Exploration(started(runner), mount)
        finally:
            if hasattr(runner, "deployment"):
                runner.stop()


def _show(played: Played, target: str, mount: str, results: Path) -> None:
    on = f" on {mount}" if mount else ""
    click.echo(f"{played.result.verdict} seed {played.name}{on}: {played.result.reason}")
    for one in played.result.findings:
        if not one.known:
            click.echo(one.text)
    if not played.steps:
        return
    name = f"sequence-{target.replace('/', '_')}-{mount}-{played.name}.json"
    about = to_replay(played.steps, target=target, mount=mount, seed=played.name, finding=played.result.reason)
    try:
        results.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InfrastructureError(f"{results / name} cannot be written: {error.strerror}") from None
    click.echo(f"as a case:\n\n{as_case(played.steps)}\n\nreplay: assay9 replay {results / name}")


def coverage(playing: Explorer, seconds: float) -> Iterator[str]:
    """The coverage: calls per hour, and for each operation its states with the number of each outcome."""
    calls = playing.met.total()
    yield f"{calls} calls in {seconds:.0f} s: {calls / max(seconds, 1) * 3600:.0f} an hour"
    yield f"{len(pairs(playing.met))} pairs of operation and state, {len(playing.met)} with the outcome"
    if playing.lines is not None:
        yield f"{len(playing.lines.all)} lines of the server"
    for op in sorted({op for op, _, _ in playing.met}):
        states: dict[str, int] = {}
        for (name, state, _), count in playing.met.items():
            if name == op:
                states[state or "plain"] = states.get(state or "plain", 0) + count
        shown = ", ".join(f"{state} {count}" for state, count in sorted(states.items(), key=lambda one: -one[1]))
        yield f"  {op:<12} {shown}"
