"""The controlling process's side of pytest-xdist: it starts workers with signals blocked, replaces those that die, and
ends them.

A worker that dies (the kernel's OOM killer, a case that crashes its process) is replaced. Its case is run once more; if
the worker dies again, the case is an `error` and the run continues.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import pytest

from conformance.evidence.gathering import not_run, read_results, read_selected
from conformance.evidence.record import RunWriter
from guests.host import signals
from guests.host.processes import clean_left_over

_DEATHS_OF_A_CASE: Final = 2
_DEATHS_BEFORE_A_CASE: Final = 6
"""So many workers in a row that die before they begin a case: the next ones would, too."""
_DEATHS_WITHOUT_A_RESULT: Final = 40
"""So many workers in a row that die while they run a case, without a case that ends between them."""
_ENDING: Final = 60.0
"""Seconds that workers have to end their guests."""


class Workers:
    """How the controlling process handles its workers."""

    def __init__(self, config: pytest.Config, writer: Callable[[], RunWriter | None]) -> None:
        self._config, self._writer = config, writer
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ready: set[str] = set()
        """Those that may have been given cases, and may have started a guest."""
        self._deaths: Counter[str] = Counter()
        """Of the workers that ran a case, by its node id."""
        self._in_a_row = {"before": 0, "while": 0}
        self._cleans = False
        """A worker has died, and may have left what it would have removed."""
        self._died: tuple[str, str] | None = None
        """A worker and how it died, until it is known which case it ran."""
        if getattr(config.option, "maxworkerrestart", "") is None:
            config.option.maxworkerrestart = str(1_000_000)  # this class decides when it is enough

    # ---- starting

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: Any) -> None:
        """Start workers with signals blocked until `signals.install` has taken over.

        (Python would show a traceback for a SIGINT that arrives while it imports.)
        """
        env = shutil.which("env")
        if env is None or not _blocks(env):
            return
        for spec in specs:
            if spec.popen and not spec.python:
                spec.python = shlex.join([env, "--block-signal=INT,TERM,HUP", sys.executable])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_newgateway(self, gateway: Any) -> None:
        """A worker has started: signals are passed on to it."""
        process = getattr(getattr(gateway, "_io", None), "popen", None)
        if isinstance(process, subprocess.Popen):
            self._running[gateway.id] = process
            signals.pass_on_to(process)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """A worker is about to collect, and can be given cases afterwards."""
        self._ready.add(node.gateway.id)

    # ---- dying

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker has ended. `error` is None if it has finished its work."""
        name = node.gateway.id
        process = self._running.pop(name, None)
        if not error or signals.received() is not None:
            return
        self._record_death()
        self._died, self._cleans = (name, how_died(name, process)), True

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self) -> None:
        """A worker is about to start, perhaps to replace a dead one."""
        if self._record_death():
            self._count_death("before", _DEATHS_BEFORE_A_CASE)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport, sched: Any) -> None:
        """A worker died while it ran a case: run it once more, or end it."""
        writer = self._writer()
        if writer is None or self._died is None:
            return
        (worker, how), self._died = self._died, None
        entry = next((s for s in read_selected(writer.run_dir, []) if s.node_id == crashitem), None)
        name = crashitem if entry is None else f"{entry.id} on {entry.mount}" if entry.mount else entry.id
        self._deaths[crashitem] += 1
        if entry is not None and any(r.key == entry.key for r in read_results(writer.run_dir, worker)):
            writer.trouble(f"{how} after it had judged {name}")
        elif self._deaths[crashitem] < _DEATHS_OF_A_CASE and _run_again(sched, crashitem):
            report.outcome = "rerun"  # type: ignore[assignment]
            writer.trouble(f"{how} while it ran {name}, which is run once more")
        else:
            times = "" if self._deaths[crashitem] == 1 else f"; {self._deaths[crashitem]} workers died in this case"
            if entry is not None:
                writer.append(not_run(entry, f"no verdict: {how} while it ran this case{times}", worker=worker))
            else:
                writer.trouble(f"{how} while it ran {name}{times}")
        self._count_death("while", _DEATHS_WITHOUT_A_RESULT)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of a case has ended: workers do work."""
        if report.when == "call":
            self._in_a_row = dict.fromkeys(self._in_a_row, 0)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """How a case that is run once more is shown."""
        return ("rerun", "R", "RERUN") if str(report.outcome) == "rerun" else None

    def _record_death(self) -> bool:
        """Record a worker's death outside any case; returns whether there was one."""
        if self._died is None:
            return False
        (_, how), self._died = self._died, None
        if (writer := self._writer()) is not None:
            writer.trouble(f"{how} before it began a case, or after its last one")
        return True

    def _count_death(self, when: str, most: int) -> None:
        self._in_a_row[when] += 1
        if self._in_a_row[when] >= most:
            pytest.exit(f"assay9: {most} workers in a row died: see the troubles above, and `dmesg`", returncode=3)

    # ---- ending

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Let workers that are still running end their guests before pytest-xdist ends them."""
        signals.finishing()
        self._record_death()
        self.end()

    def end(self) -> None:
        """End the workers that are still running, and remove what dead ones have left."""
        for name, process in self._running.items():
            with contextlib.suppress(OSError):
                if name not in self._ready:
                    process.kill()  # it has nothing to end yet, and may not handle signals
                elif signals.received() is None:  # otherwise it has been passed on
                    process.send_signal(signal.SIGTERM)
        limit = time.monotonic() + _ENDING
        for process in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, limit - time.monotonic()))
        self._running.clear()
        if self._cleans:
            clean_left_over()


def how_died(worker: str, process: subprocess.Popen[bytes] | None) -> str:
    """One line that says which worker ended, and how."""
    status = None
    if process is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(10)
    if status is None:
        return f"worker {worker} does not respond"
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return f"worker {worker} was killed by SIGKILL (out of memory? `dmesg` says so)"
    number = -status if status < 0 else status - 128 if status > 128 else 0
    with contextlib.suppress(ValueError):
        return f"worker {worker} was ended by {signal.Signals(number).name}"
    return f"worker {worker} ended with status {status}"


def _run_again(sched: Any, node_id: str) -> bool:
    try:
        sched.mark_test_pending(node_id)
    except NotImplementedError:  # --dist other than load and worksteal
        return False
    return True


def _blocks(env: str) -> bool:
    """Whether this env can block signals: GNU's can, since 8.31."""
    tried = subprocess.run([env, "--block-signal=INT", "true"], capture_output=True, check=False)
    return tried.returncode == 0
