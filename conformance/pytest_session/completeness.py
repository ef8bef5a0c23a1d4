"""No selected case is lost: every outcome that pytest reports leaves an entry in the record.

A case leaves its result when it is judged. Anything that prevents that (a fixture that raises, a skip by another
plugin, an error of pytest's own) becomes an `error` with its reason; an event outside any case becomes a trouble.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from conformance.case import Case
from conformance.errors import InfrastructureError
from conformance.evidence.gathering import not_run
from conformance.evidence.models import Selected, demanded
from conformance.evidence.record import RunWriter

_LONGEST = 300
INTERNAL_ERROR = "internal-error.txt"
"""In the run's directory: the traceback of an error of pytest's own, or of a hook of ours."""


class Completeness:
    """One process's list of selected cases, and of those with a result."""

    def __init__(self, writer: Callable[[], RunWriter | None], worker: str, controls: bool) -> None:
        self._writer, self._worker, self._controls = writer, worker, controls
        self._selected: dict[str, Selected] = {}
        self._judged: set[str] = set()
        self._reported: set[str] = set()
        self._broken = False

    def judged(self, node_id: str) -> None:
        """That case's result is in the record."""
        self._judged.add(node_id)

    def not_run(self, node_id: str) -> None:
        """That case is left out on purpose: the run ends and reports why."""
        self._selected.pop(node_id, None)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Record what is selected before the first case runs. (Where workers run the cases, they collect them.)"""
        writer = self._writer()
        if writer is None:
            return
        for item in session.items:
            case, parameters, mount = case_of(item), parameters_of(item), mount_of(item)
            if case is not None:
                self._selected[item.nodeid] = Selected(
                    node_id=item.nodeid, **demanded(case, parameters, str(mount or ""))
                )
        writer.select(self._selected.values())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A phase of a case has ended: a case that remains without a result is an error."""
        report = yield
        writer, entry = self._writer(), self._selected.get(item.nodeid)
        if writer is None or entry is None:
            return report
        if item.nodeid in self._judged:
            if report.failed and report.when == "teardown":
                writer.trouble(f"{entry.id}: after the case: {_reason(report, call)}")
        elif report.when == "call" or not report.passed:
            self._judged.add(item.nodeid)
            where = "" if report.when == "call" else f"{report.when}: "
            reason = f"no verdict: {where}{_reason(report, call)}"
            try:
                writer.append(not_run(entry, reason, report.longreprtext[-6000:], self._worker))
            except InfrastructureError as e:  # the disk is full: at the end of the run the case has no entry
                report.sections.append(("assay9", str(e)))
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Cases that cannot be collected, or that their module skips, are not selected."""
        writer = self._writer()
        if report.passed or writer is None or not self._controls:
            return
        how = "cannot be collected" if report.failed else "is skipped as a whole"
        text = f"{report.nodeid or 'the cases'} {how}: {_last_line(report.longreprtext)}"
        if text not in self._reported:  # each worker collects
            self._reported.add(text)
            writer.trouble(text)

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excrepr: Any, excinfo: pytest.ExceptionInfo[BaseException]) -> bool | None:
        """pytest, or a hook of ours, failed outside any case. The controlling process also gets its workers' errors."""
        writer = self._writer()
        if writer is None or not self._controls:
            return None
        first, self._broken = not self._broken, True
        if isinstance(excinfo.value, InfrastructureError):
            if first:
                writer.trouble(str(excinfo.value))
            return True
        kept = keep_details(writer.run_dir, str(excrepr))
        if first:  # pytest-xdist often fails again after such an error
            said = f"{_last_line(str(excrepr))}; its traceback is in {kept}"
            writer.trouble(f"internal error, a defect of assay9 and not of the target: {said}")
        return True  # reported; see `without_tracebacks`


def keep_details(run_dir: Path, details: str) -> str:
    """Add an unexpected exception to the run's file for them; returns the file's name."""
    with (
        contextlib.suppress(OSError),
        (run_dir / INTERNAL_ERROR).open("a", encoding="utf-8", errors="backslashreplace") as file,
    ):
        file.write(f"{details}\n")
    return INTERNAL_ERROR


def without_tracebacks(config: pytest.Config) -> None:
    """Keep internal errors off pytest's terminal: the summary has them, with the place of the traceback.

    pytest has no public way to do so.
    """
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        with contextlib.suppress(AttributeError, ValueError):
            config.hook.pytest_internalerror._remove_plugin(reporter)


def case_of(item: Any) -> Case | None:
    """The case that a pytest item runs; None for other tests."""
    case: Case | None = getattr(getattr(item, "function", None), "assay9_case", None)
    return case


def mount_of(item: pytest.Item) -> Any:
    """The mount that the item requests; None if it requests none."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("share") if callspec is not None else None


def parameters_of(item: pytest.Item) -> str:
    """The case's own parameters, without the mount's."""
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return ""
    mount = callspec.params.get("share")
    return "-".join(part for part in callspec._idlist if part != str(mount))


def _reason(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    if report.passed:
        return "it ended without a verdict"
    if call.excinfo is None:
        return _last_line(report.longreprtext)
    text = " ".join(str(call.excinfo.value).split())[:_LONGEST]
    return f"{call.excinfo.typename}: {text}" if report.failed else text or "skipped without a reason"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line[1:].strip() for line in lines if line.startswith("E ")]
    errors = [line for line in errors if not line.startswith("assert ")] or errors
    return ((errors or lines)[-1] if lines else "no reason given")[:_LONGEST]
