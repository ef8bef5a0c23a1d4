"""Runs cases on a server with a fault in it, in this process, and says which of them found it.

A fault in the source is a copy of `reference_server` with one change: the server is started in the copy's directory,
where Python finds the copy first. A fault of messages is in the transport between case and server.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conformance.case import Case
from conformance.catalogue.index import CASES
from conformance.errors import SuiteError
from conformance.evidence.host import CHECKOUT
from conformance.evidence.models import CaseResult
from conformance.pytest_session.completeness import case_of, parameters_of
from conformance.run.session import Make, WireSession
from conformance.run.start import CaseRunner, start
from conformance.run.wire import WireRunner
from conformance.selftest.declared import MessageFault, SourceFault
from conformance.selftest.link import FaultyLink
from conformance.selftest.rules import Rule, Rules
from conformance.sut.asked import asked_of
from conformance.sut.load import load
from conformance.transports.base import Link
from guests.agent import packing
from guests.host import signals

SOURCES = {"server": Path("reference_server"), "guest": Path("guests/agent/payload")}
"""Whose fault it is -> the sources that are copied and changed."""
TARGETS = {"wire": "reference", "ring": "reference-vhost-user"} | dict.fromkeys(
    ("vfs", "property", "sequence", "application"), "reference-uml"
)
"""Layer -> the target whose server the faulty copy is."""


@dataclass(frozen=True, slots=True)
class Item:
    """A case with parameters, ready to be called."""

    case: Case
    parameters: str
    function: Callable[..., None]
    arguments: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As a report names it: OPEN-004[rdonly]."""
        return f"{self.case.id}[{self.parameters}]" if self.parameters else self.case.id


@dataclass(frozen=True, slots=True)
class Found:
    """The result of one case on a server with a fault."""

    name: str
    verdict: str
    severity: str
    reason: str
    texts: tuple[str, ...]

    @property
    def counts(self) -> bool:
        """Whether it is a failure; a finding of severity `varies` is not."""
        return self.verdict == "fail" and self.severity != "varies"


class _Collector:
    """Receives the items that pytest has collected."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """See pytest."""
        self.items = list(session.items)


def target_of(fault: SourceFault) -> str:
    """The name of the target on which the fault is tried."""
    return fault.target or TARGETS[fault.layer]


def collected(layer: str, target: str = "") -> dict[str, list[Item]]:
    """All cases of a layer as pytest parametrizes them for its target, or that one: name -> one item for each mount."""
    taken = _Collector()
    words = [str(CASES / layer), f"--target={target or TARGETS[layer]}", f"--layer={layer}", "--all", "--collect-only"]
    words += ["-q", "-p", "no:hypothesispytest", "-p", "no:cacheprovider"]
    with signals.borrowed(), contextlib.redirect_stdout(io.StringIO()):
        status = pytest.main(words, plugins=[taken])
    if not taken.items:
        raise SuiteError(f"the cases of layer {layer} cannot be collected: pytest ended with {status}")
    found: dict[str, list[Item]] = {}
    for one in taken.items:
        case = case_of(one)
        if case is not None and isinstance(one, pytest.Function):
            parameters = dict(one.callspec.params) if hasattr(one, "callspec") else {}
            wanted = {name: parameters.get(name) for name in one._fixtureinfo.argnames}
            item = Item(case, parameters_of(one), one.function, wanted)
            found.setdefault(item.name, []).append(item)
    return found


@contextmanager
def made(fault: SourceFault) -> Iterator[Path]:
    """A directory with the faulty copy of the sources. Raises SuiteError if the fault does not fit its file."""
    with temporary("assay9-mutant-") as directory:
        sources = SOURCES[fault.of]
        shutil.copytree(CHECKOUT / sources, directory / sources, ignore=shutil.ignore_patterns("__pycache__"))
        put_in(fault, directory / sources)
        yield directory


@contextmanager
def temporary(prefix: str) -> Iterator[Path]:
    """A directory that is removed with all that is in it, whenever a signal arrives."""
    with contextlib.ExitStack() as stack:
        with signals.deferred():
            directory = Path(tempfile.mkdtemp(prefix=prefix))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
        yield directory


def put_in(fault: SourceFault, sources: Path) -> str:
    """Change the file below `sources`; returns its previous text. Raises SuiteError if the fault does not fit."""
    file = sources / fault.file
    text = file.read_text() if file.is_file() else ""
    if text.count(fault.before) != 1:
        raise SuiteError(f"{fault.name}: its text occurs {text.count(fault.before)} times in {file}, not once")
    file.write_text(text.replace(fault.before, fault.after))
    return text


def on_mutant(fault: SourceFault, items: Iterable[Item], enough: int = 1 << 30) -> list[Found]:
    """The results of those cases on the faulty server, until `enough` of them have failed.

    Raises SuiteError if the fault does not fit; InfrastructureError if the server does not start.
    """
    in_place = _pushed_from if fault.of == "guest" else imported_from
    with made(fault) as directory, in_place(directory):
        return on_target(target_of(fault), {}, fault.layer, directory, items, enough)


def on_target(
    target: str, given: Mapping[str, Any], layer: str, directory: Path, items: Iterable[Item], enough: int = 1 << 30
) -> list[Found]:
    """The results of those cases on a target with those options, until `enough` of them have failed.

    Raises UsageError, InfrastructureError.
    """
    with contextlib.ExitStack() as stack:
        with signals.deferred():
            runner = start(asked_of(load(target), given, (layer,)), directory, lambda _: None, "main", "never", layer)
            stack.callback(runner.stop)
        return list(_judged(runner, items, enough))


@contextmanager
def imported_from(directory: Path) -> Iterator[None]:
    """Python programs that start within the block find their packages there first.

    The working directory is not enough: a server that enters a run's mount namespace has the host's root as its own.
    """
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(directory)
    try:
        with contextlib.chdir(directory):
            yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def _pushed_from(directory: Path) -> Iterator[None]:
    """Within the block the agent that is pushed, into guests and outside, comes from that directory."""
    before = packing.PAYLOAD
    packing.PAYLOAD = directory / SOURCES["guest"]
    packing.agent_source.cache_clear()
    try:
        yield
    finally:
        packing.PAYLOAD = before
        packing.agent_source.cache_clear()


def _judged(runner: CaseRunner, items: Iterable[Item], enough: int) -> Iterator[Found]:
    if runner.broken is not None:
        raise runner.broken
    for one in items:
        result, _ = runner.run_item(one.case, one.parameters, one.function, dict(one.arguments))
        if runner.broken is not None:
            raise runner.broken
        found = _found(one, result)
        yield found
        enough -= found.counts
        if enough <= 0:
            return


def _found(item: Item, result: CaseResult) -> Found:
    texts = tuple(one.text for one in result.findings)
    return Found(item.name, result.verdict, result.severity, result.reason, texts)


class FaultySession(WireSession):
    """A session whose cases meet a fault; the checks between cases do not."""

    rules: tuple[Rule, ...] = ()

    def connect(self) -> Link:
        link = super().connect()
        return FaultyLink(link, Rules(self.rules, self.server.export)) if self.rules else link


class FaultyRunner(WireRunner):
    """Wire cases on one server, with one fault after the other."""

    session: FaultySession

    def _session(self, make: Make, run_dir: Path) -> FaultySession:
        return FaultySession(make, run_dir, self.target.profile)

    def with_fault(self, rules: tuple[Rule, ...], item: Item) -> Found:
        """The result of the case. Raises InfrastructureError if the server cannot be restarted."""
        self.session.rules = rules
        try:
            result, _ = self.run_item(item.case, item.parameters, item.function, dict(item.arguments))
        finally:
            self.session.rules = ()
        if self.broken is not None:
            raise self.broken
        return _found(item, result)


@contextmanager
def served(target: str, directory: Path, given: Mapping[str, Any] | None = None) -> Iterator[FaultyRunner]:
    """A runner on a server of that target. Raises UsageError, InfrastructureError."""
    runner = FaultyRunner(asked_of(load(target), given or {}, ("wire",)), directory, "main")
    with contextlib.ExitStack() as stack:
        with signals.deferred():
            stack.callback(runner.stop)
            runner.start()
        if runner.broken is not None:
            raise runner.broken
        yield runner


def missed(fault: SourceFault | MessageFault, found: Sequence[Found]) -> str:
    """Why the fault is not found as declared; empty if it is."""
    by_name: dict[str, list[Found]] = {}
    for one in found:
        by_name.setdefault(one.name, []).append(one)
    for name in fault.caught:
        if not any(_as_declared(fault, one) for one in by_name.get(name, [])):
            seen = "; ".join(f"{one.verdict}: {one.reason}" for one in by_name.get(name, []))
            return f"{name} does not find it: {seen or 'there is no such case'}"
    return ""


def _as_declared(fault: SourceFault | MessageFault, one: Found) -> bool:
    if isinstance(fault, SourceFault):
        return one.counts or (bool(fault.severity) and one.verdict == "fail")
    if one.verdict != fault.verdict or (fault.severity and one.severity != fault.severity):
        return False
    return not fault.says or any(re.search(fault.says, text) for text in (one.reason, *one.texts))
