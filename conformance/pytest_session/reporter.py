"""The progress of `assay9 run`, in place of pytest's dots: the current activity, and how much is left.

pytest's own reporter is replaced by one that says each thing once: the summary of `conformance.evidence` names every
failed case, so there are no sections of tracebacks; --tb=short shows them. With -vv or --pdb pytest's own reporter
stays. Lines of workers (a guest boots, an image is built) come over a datagram socket, so they do not break the status
line of a terminal.
"""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter

from conformance.pytest_session.lines import Messages
from guests.errors import InfrastructureError
from guests.host.activity import PLAIN, Activity, duration

_OF_XDIST = re.compile(r"bringing up nodes|(created|ready|initialized|collecting): \d|\d+ workers? \[")
"""How xdist says that its workers come up."""
_EXCEPTION = re.compile(r"^\s*(?:E +)?([A-Za-z_][\w.]*(?:Error|Exception|Exit)\b.*)", re.MULTILINE)
"""The line of a traceback that says what was raised; a worker's arrives as text."""
_SILENCE = 5.0
"""Seconds of silence on a terminal after which a line is printed beside pytest's own reporter."""
_ENOUGH = 20
"""Finished cases after which the time left can be estimated."""


def take_over(config: pytest.Config, wanted: bool) -> RunReporter | None:
    """Put our reporter in place of pytest's. Returns None if pytest's stays, with our heartbeat."""
    option = config.option
    if not wanted or option.verbose > 0 or option.collectonly or option.usepdb:
        if not option.collectonly and not option.usepdb:
            config.pluginmanager.register(Heartbeat(), "assay9-heartbeat")
        return None
    own = RunReporter(config)
    config.pluginmanager.register(_Replacing(own), "assay9-replacing-the-reporter")
    there = config.pluginmanager.getplugin("terminalreporter")
    if there is not None:
        _replace(config.pluginmanager, there, own)
    return own


class _Replacing:
    """Replaces the reporter in time: pytest makes it after our configuration, and other plugins use it after that."""

    def __init__(self, own: RunReporter) -> None:
        self._own = own

    def pytest_plugin_registered(self, plugin: object, manager: pytest.PytestPluginManager) -> None:
        if type(plugin) is TerminalReporter:
            _replace(manager, plugin, self._own)

    def pytest_internalerror(self, excrepr: Any, excinfo: pytest.ExceptionInfo[BaseException]) -> bool | None:
        """See pytest, which prints a traceback of a failure before it has made its reporter."""
        there = self._own.config.pluginmanager.is_registered(self._own)
        return None if there else self._own.pytest_internalerror(excrepr, excinfo)


def _replace(manager: pytest.PytestPluginManager, there: object, own: RunReporter) -> None:
    manager.unregister(there)
    manager.register(own, "terminalreporter")


class Course:
    """The progress of a run, which `picture` shows in one line."""

    def __init__(self) -> None:
        self.session: pytest.Session | None = None
        self.doing, self._since = "starting", time.monotonic()
        self.said = ("", 0.0)
        """What a worker said last, and when."""
        self._done = self._unexpected = 0
        self.first: float | None = None
        """When the first case began."""
        self.running: dict[str, float] = {}

    @property
    def total(self) -> int:
        """The number of collected cases."""
        return self.session.testscollected if self.session is not None else 0

    def phase(self, doing: str) -> None:
        """Set the current activity; empty: cases run."""
        self.doing, self._since = doing, time.monotonic()

    def began(self, nodeid: str) -> bool:
        """A case begins. Returns whether it is the first."""
        first = self.first is None
        if first:
            self.first = time.monotonic()
            self.phase("")
        self.running[nodeid] = time.monotonic()
        return first

    def ended(self, report: pytest.TestReport) -> None:
        """A phase of a case has ended."""
        self._done += report.when == "call" or report.skipped
        self._unexpected += report.failed

    def picture(self) -> str:
        """The status line of a terminal; elsewhere a line for each minute."""
        now = time.monotonic()
        if self.doing:
            return f"{self.doing} ({duration(now - self._since)})"
        total = self.total
        said = f"{self._done} of {total} cases" if total else f"{self._done} cases"
        if self._unexpected:
            said += f", {self._unexpected} unexpected"
        if not self._done and self.said[0]:
            said += f"; {self.said[0]} ({duration(now - self.said[1])})"
        left = self._left(total, now)
        if left is not None:
            said += f", about {duration(left)} left"
        running = sorted(self.running.copy().items(), key=lambda entry: entry[1])
        shown = [f"{_short(nodeid)} ({duration(now - begun)})" for nodeid, begun in running[:2]]
        more = len(running) - len(shown)
        return said + (f"; running {', '.join(shown)}{f' and {more} more' if more > 0 else ''}" if shown else "")

    def _left(self, total: int, now: float) -> float | None:
        if self.first is None or self._done < _ENOUGH or total <= self._done:
            return None
        return (now - self.first) / self._done * (total - self._done)


class Heartbeat:
    """Beside pytest's own reporter: a line when nothing was printed for a while."""

    def __init__(self) -> None:
        self._course = Course()
        self._activity = Activity(lambda: f"assay9: {self._course.picture()}", terminal=False)
        self._activity.plain = _SILENCE if self._activity.stream.isatty() else PLAIN

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._course.session = session
        self._course.phase("collecting cases")
        self._activity.__enter__()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._course.began(nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._course.running.pop(nodeid, None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._course.ended(report)
        self._activity.heard()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._activity.stop()


class RunReporter(TerminalReporter):  # type: ignore[misc]  # final to readers of types; pytest-sugar does the same
    """Counts, estimates, names the cases that run; prints nothing twice."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__(config, sys.stdout)
        self.course = Course()
        self.activity = Activity(self.course.picture)
        self.messages: Messages | None = None
        self.details = Path(tempfile.gettempdir())
        """Where the details of an internal error are kept."""
        self._broken = False

    def say(self, line: str) -> None:
        """Print a permanent line."""
        self.course.said = (line, time.monotonic())
        if self.course.doing:
            self.course.phase(line)
        self.activity.line(line)

    # ---- pytest's hooks

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        super().pytest_sessionstart(session)
        self.course.session = session
        self.course.phase("collecting cases")
        self.activity.__enter__()
        self.messages = Messages(self.say)

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        if self.course.began(nodeid):
            total = self.course.total
            self.activity.line(f"running {total} case{'s' if total != 1 else ''}")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.course.running.pop(nodeid, None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """See TerminalReporter: counted, and with -v a line."""
        self._tests_ran = True
        category, _, _ = self.config.hook.pytest_report_teststatus(report=report, config=self.config)
        self._add_stats(category, [report])
        if report.when != "call" and report.passed:
            return
        seen = {name: str(value) for name, value in report.user_properties}
        verdict, case = seen.get("assay9", report.outcome), seen.get("assay9-case", _short(report.nodeid))
        self.course.ended(report)
        if self.config.option.verbose >= 0:
            self.activity.line(f"{verdict:<11} {case} ({report.duration:.2f} s)")

    def pytest_internalerror(self, excrepr: Any, excinfo: pytest.ExceptionInfo[BaseException]) -> bool:  # type: ignore[override]
        """See TerminalReporter: one line, and a file with the details. (Once a run has its record, it is there.)"""
        self.activity.stop()
        if isinstance(excinfo.value, InfrastructureError):  # no defect: the user must correct what it names
            if not self._broken:
                self._broken = True
                self.activity.line(f"assay9: {excinfo.value}")
            return True
        kept = ""
        for directory in (self.details, Path(tempfile.gettempdir())):
            with contextlib.suppress(OSError):
                file = directory / "internal-error.txt"
                with file.open("a", encoding="utf-8", errors="backslashreplace") as out:
                    out.write(f"{excrepr}\n")
                kept = f"; the details are in {file}"
                break
        if not self._broken:  # one error often causes another, in the same file
            self._broken = True
            whole = "".join(traceback.format_exception_only(excinfo.value))
            said = (_EXCEPTION.findall(whole) or whole.strip().splitlines() or ["no message"])[-1]
            line = f"assay9: internal error, a defect of assay9 and not of the target: {' '.join(said.split())[:300]}"
            self.activity.line(f"{line}{kept}")
        return True

    def finishing(self) -> None:
        """The cases are over: guests are ended, reports written."""
        self.course.running.clear()
        self.course.phase("stopping guests and servers, writing the reports")

    def close(self) -> None:
        """From now on only the summary is written."""
        if self.messages is not None:
            self.messages.close()
        self.activity.stop()

    # ---- what is not printed

    @property
    def showheader(self) -> bool:
        """See TerminalReporter: versions are in the record."""
        return False

    def rewrite(self, line: str, **markup: bool) -> None:
        """See TerminalReporter: xdist's own progress."""

    def write_line(self, line: str | bytes, **markup: bool) -> None:
        """See TerminalReporter: the status line already shows what xdist prints about workers that start."""
        text = line.decode(errors="replace") if isinstance(line, bytes) else line
        if text.strip() and not _OF_XDIST.match(text):
            self.activity.line(text)

    def summary_stats(self) -> None:
        """See TerminalReporter: the summary of the evidence has the counts."""

    def summary_warnings(self) -> None:
        """See TerminalReporter: warnings are for authors of cases (-vv)."""

    def _report_keyboardinterrupt(self) -> None:
        """See TerminalReporter: `guests.host.signals` has reported it, or the summary says why the run ended."""


def _short(nodeid: str) -> str:
    """`vfs/open: creat_gives_mode[cache=none]` of a case's node id."""
    path, _, name = nodeid.partition("::")
    layer, family = Path(path).parent.name, Path(path).stem.removeprefix("test_")
    return f"{layer}/{family}: {name.removeprefix('test_')}"
