"""`assay9 selftest`: what the suite detects, measured by deliberate faults in servers."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import active_children, get_context
from pathlib import Path

import click

from conformance.case import BY_NAME
from conformance.catalogue.index import families, index
from conformance.errors import InfrastructureError, SuiteError, UsageError
from conformance.evidence.host import CHECKOUT
from conformance.selftest.alone import Family, elsewhere, families_of
from conformance.selftest.bench import (
    TARGETS,
    FaultyRunner,
    Item,
    collected,
    missed,
    on_mutant,
    served,
    target_of,
    temporary,
)
from conformance.selftest.declared import MessageFault, SourceFault, declared
from conformance.selftest.progress import Progress
from conformance.sut.command_line import WORD
from conformance.vocabulary import LAYERS
from guests.host import signals
from guests.host.processes import end_with_parent

FAULTS = CHECKOUT / "tests" / "mutants"
NOWHERE = {
    "dataset": "its cases need ZFS, which only a host with a target of its own has",
    "random": "a sequence that ends a device is shortened for minutes; `illegal` has what it can meet, one by one",
}
"""Families for which no fault is put into the reference server, and why."""
_TOGETHER = 8
"""Faults of messages that one server meets, one after the other."""
_SOCKET, _RINGS = "reference", "reference-vhost-user"
"""The targets of faults of messages: a server at a socket, and one behind the rings of a device."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one fault."""

    name: str
    layer: str
    missed: str
    """Why no case found it; empty where it was found."""
    left_out: str = ""
    """Why it says nothing of the suite: the case does not pass on this target without the fault, either."""


@dataclass(frozen=True, slots=True)
class Task:
    """Work for one process."""

    target: str
    faults: tuple[SourceFault, ...] | tuple[MessageFault, ...]
    family: str = ""
    """Where it is asked whether this family alone finds one of the faults."""

    @property
    def names(self) -> list[str]:
        """The names of its outcomes."""
        if self.family:
            return [self.family]
        source = isinstance(self.faults[0], SourceFault)
        return [one.name if source else f"{one.name} on {self.target}" for one in self.faults]


_items: dict[tuple[str, str], dict[str, list[Item]]] = {}
"""Layer and target -> the cases. Collected before the processes are forked, which so have them."""


@click.command()
@click.argument("target", type=WORD, required=False)
@click.option(
    "--faults",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Faults of this TOML file (repeatable). Default: those of tests/mutants in a checkout.",
)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    type=WORD,
    help="Only faults for cases of this layer (repeatable). Default: all but application.",
)
@click.option(
    "-k",
    "expression",
    default="",
    metavar="TEXT",
    help="Only faults with this text in their name or in the name of a case that finds them.",
)
@click.option("--jobs", type=click.IntRange(1, 64), metavar="N", help="Servers at a time. Default: one per core.")
@click.option(
    "--alone",
    is_flag=True,
    help="For each family: whether one of its faults is found by no other family. It takes minutes for each.",
)
@click.option(
    "--progress",
    "progress_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Record in FILE what was tried, and continue where an earlier call with the same FILE was interrupted.",
)
def selftest(
    target: str | None,
    files: tuple[Path, ...],
    layers: tuple[str, ...],
    expression: str,
    jobs: int | None,
    alone: bool,
    progress_file: Path | None,
) -> None:
    """Put each declared fault into a server, run the cases that must find it, and print the share found by layer.

    Without TARGET: the faults in the source of the reference server and device, and the faults of messages, these on a
    socket and on the rings of a vhost-user device. With TARGET: the faults of messages on that target, any one with
    layer wire; a fault whose case does not pass there without it is left out.

    Exit status: 0 every fault is found and each family has one, 1 otherwise, 2 usage, 3 a server did not start.
    """
    for one in layers:
        if one not in LAYERS:
            raise UsageError(f"no layer {one!r}: {', '.join(LAYERS)}")
    source, messages = _chosen(files, layers, expression)
    if os.geteuid() != 0:
        raise UsageError("the servers of a self test are contained, which needs root: run it as root")
    if alone and target:
        raise UsageError("--alone is for faults in the source: leave TARGET out")
    if alone:
        tasks = [_alone(one) for one in families_of(source) if one.layer != "sequence"]
    else:
        tasks = _tasks([] if target else source, messages, [target] if target else [_SOCKET, _RINGS])
    if not tasks:
        raise UsageError("no fault is selected: widen --layer and -k")
    for layer, on in sorted({_where(fault) for task in tasks for fault in task.faults}):
        _items[layer, on] = collected(layer, on)
    progress = Progress(progress_file, " ".join([target or "", *map(str, files), *layers, expression, str(alone)]))
    outcomes = list(_run(tasks, jobs or os.cpu_count() or 1, progress))
    for line in summary(outcomes):
        click.echo(line)
    bare = [] if alone or target or files or layers or expression else list(without_a_fault(source, messages))
    for line in bare:
        click.echo(line)
    raise SystemExit(1 if bare or any(one.missed for one in outcomes) else 0)


def _chosen(
    files: Sequence[Path], layers: Sequence[str], expression: str
) -> tuple[list[SourceFault], list[MessageFault]]:
    if not files and not FAULTS.is_dir():
        raise UsageError("the faults come with the sources: run this in a checkout, or give --faults FILE")
    source, messages = declared(files or sorted(FAULTS.glob("*.toml")))

    def wanted(fault: SourceFault | MessageFault) -> bool:
        named = any(expression in text for text in (fault.name, *fault.caught))
        by_itself = fault.layer not in BY_NAME or bool(files or expression)
        return named and (fault.layer in layers if layers else by_itself)

    return [one for one in source if wanted(one)], [one for one in messages if wanted(one)]


def _tasks(source: Sequence[SourceFault], messages: Sequence[MessageFault], targets: Sequence[str]) -> list[Task]:
    """Those that need a guest first: they take longest."""
    last = sorted(source, key=lambda one: TARGETS[one.layer] != TARGETS["vfs"])
    tasks = [Task(target_of(one), (one,)) for one in last]
    for name in targets:
        tasks += [Task(name, tuple(messages[at : at + _TOGETHER])) for at in range(0, len(messages), _TOGETHER)]
    return tasks


def _where(fault: SourceFault | MessageFault) -> tuple[str, str]:
    """The layer and the target of the cases that must find it."""
    return fault.layer, target_of(fault) if isinstance(fault, SourceFault) else TARGETS[fault.layer]


def _alone(family: Family) -> Task:
    return Task(TARGETS[family.layer], family.faults, f"{family.layer}/{family.name}")


def _run(tasks: Sequence[Task], jobs: int, progress: Progress) -> Iterator[Outcome]:
    """The outcomes as they come, kept ones first. Raises InfrastructureError."""
    total, done = sum(len(task.names) for task in tasks), 0
    for name in [name for task in tasks for name in task.names if name in progress.done]:
        done += 1
        yield Outcome(**progress.done[name])
    tasks = [task for task in tasks if not all(name in progress.done for name in task.names)]
    with ProcessPoolExecutor(jobs, get_context("fork"), _forked, (os.getpid(),)) as pool:
        try:
            for one in as_completed([pool.submit(_try, task) for task in tasks]):
                for outcome in one.result():
                    if outcome.name in progress.done:
                        continue  # from a task that was interrupted before its last one
                    done += 1
                    progress.keep(outcome.name, asdict(outcome))
                    if outcome.missed:
                        click.echo(f"not found: {outcome.name}: {outcome.missed}", err=True)
                    yield outcome
                if sys.stderr.isatty() or done == total or done % 10 == 0:
                    click.echo(f"assay9: {done} of {total} faults tried", err=True)
        except BrokenProcessPool:
            raise InfrastructureError(
                "a process of the self test was killed (out of memory? `dmesg` says so)",
                "run it again, with fewer --jobs or with --progress",
            ) from None
        except BaseException:
            for child in active_children():  # each ends what it has started; the pool then waits for all of them
                child.terminate()
            raise


def _forked(parent: int) -> None:
    signals.pooled()
    end_with_parent(parent=parent)


def _try(task: Task) -> list[Outcome]:
    """Try the faults of one task, in its own process."""
    with signals.task():
        return _tried(task)


def _tried(task: Task) -> list[Outcome]:
    if task.family:
        return [_try_alone(task)]
    if isinstance(task.faults[0], SourceFault):
        return [_try_source(fault) for fault in task.faults if isinstance(fault, SourceFault)]
    with temporary("assay9-selftest-") as directory, served(task.target, directory) as runner:
        return [_try_messages(runner, fault) for fault in task.faults if isinstance(fault, MessageFault)]


def _try_source(fault: SourceFault) -> Outcome:
    known = _items[_where(fault)]
    items = [item for name in fault.caught for item in known.get(name, [])]
    enough = 1 if len(fault.caught) == 1 else len(items)  # of one case, the first mount on which it fails will do
    try:
        return Outcome(fault.name, fault.layer, missed(fault, on_mutant(fault, items, enough)))
    except SuiteError as error:  # the source has changed: the fault has to change with it
        return Outcome(fault.name, fault.layer, str(error))


def _try_alone(task: Task) -> Outcome:
    """Whether the family alone finds one of its faults; they are tried until one is found only by it."""
    layer, _, family = task.family.partition("/")
    why = []
    for fault in task.faults:
        assert isinstance(fault, SourceFault)
        try:
            other = elsewhere(fault, family, _items[_where(fault)])
        except SuiteError as error:
            other = str(error)
        if not other:
            return Outcome(task.family, layer, "")
        why.append(f"{fault.name}: {other}")
    return Outcome(task.family, layer, f"others find each of its faults: {'; '.join(why)}")


def _try_messages(runner: FaultyRunner, fault: MessageFault) -> Outcome:
    items = [item for name in fault.caught for item in _items[_where(fault)].get(name, [])]
    name = f"{fault.name} on {runner.target.name}"
    for item in items:
        without = runner.with_fault((), item)
        if without.verdict != "pass":
            return Outcome(name, fault.layer, "", f"{item.name} is {without.verdict} without the fault")
    found = [runner.with_fault(fault.rules, item) for item in items]
    unjudged = next((one for one in found if one.verdict == "undrivable" != fault.verdict), None)
    if unjudged is not None:
        return Outcome(name, fault.layer, "", f"{unjudged.name} cannot judge it there: {unjudged.reason}")
    return Outcome(name, fault.layer, missed(fault, found))


def summary(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The fraction found, by layer, and the faults that were not found."""
    judged = [one for one in outcomes if not one.left_out]
    tried, found = Counter(one.layer for one in judged), Counter(one.layer for one in judged if not one.missed)
    yield f"{'layer':<10} {'faults':>7} {'found':>7} {'share':>7}"
    for layer in [one for one in LAYERS if tried[one]]:
        yield f"{layer:<10} {tried[layer]:>7} {found[layer]:>7} {_share(found[layer], tried[layer]):>7}"
    yield f"{'all':<10} {tried.total():>7} {found.total():>7} {_share(found.total(), tried.total()):>7}"
    for one in outcomes:
        if one.left_out:
            yield f"left out: {one.name}: {one.left_out}"
    for one in sorted(judged, key=lambda one: one.name):
        if one.missed:
            yield f"not found: {one.name}: {one.missed}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def without_a_fault(source: Sequence[SourceFault], messages: Sequence[MessageFault]) -> Iterator[str]:
    """The families for which no fault is declared, a line for each layer."""
    faults: list[SourceFault | MessageFault] = [*source, *messages]
    ids = {name.partition("[")[0] for fault in faults for name in fault.caught}
    for layer in ("ring", "wire", "vfs", "property"):
        covered = {index()[one].family for one in ids if one in index() and index()[one].layer == layer}
        rest = [family for family in families(layer) if family not in covered | NOWHERE.keys()]
        if rest:
            yield f"families of {layer} without a fault: {', '.join(rest)}; declare one in tests/mutants"
