"""Fixtures for every part."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from conformance.sut.parts.scratch import Scratch
from guests.errors import InfrastructureError
from guests.host.processes import clean_left_over

# a slow example says that the machine is busy, and nothing about the code under test
settings.register_profile("assay9", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("assay9")


_OWN_SCOPE = ("module", "package", "session")
_EXPORTS, _LEFT = pytest.StashKey[Scratch](), pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Commands that tests start are not workers of this run, and make their exports in a directory of this session."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        os.environ.pop(name, None)
    if not hasattr(config, "workerinput"):  # workers inherit the environment of the process that starts them
        config.stash[_EXPORTS] = Scratch()
        os.environ["ASSAY9_SCRATCH"] = str(config.stash[_EXPORTS].path)


@pytest.hookimpl(trylast=True)  # after pytest-xdist has ended its workers
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A leftover export that the next run would not remove fails the session: a user's run would leave it, too."""
    if exports := session.config.stash.get(_EXPORTS, None):
        clean_left_over()  # removes what killed runs have left, as the next run would
        session.config.stash[_LEFT] = sorted(path.name for path in exports.path.iterdir())
        exports.remove()
        if session.config.stash[_LEFT] and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left := config.stash.get(_LEFT, []):
        terminalreporter.write_line(f"ERROR: tests left exports behind: {', '.join(left)}", red=True)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share something slow to start (a guest, a server) run in one worker, so that it starts once."""
    for item in items:
        if isinstance(item, pytest.Function):
            used = [d for found in item._fixtureinfo.name2fixturedefs.values() for d in found]
            if places := {d.baseid for d in used if d.scope in _OWN_SCOPE and d.baseid.startswith("tests/")}:
                item.add_marker(pytest.mark.xdist_group(min(places)))


@pytest.fixture
def private_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """XDG_RUNTIME_DIR for this test alone; short, because sockets live in it."""
    directory = Path(tempfile.mkdtemp(prefix="a9-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    yield directory
    with contextlib.suppress(InfrastructureError):  # a test has made it unusable
        clean_left_over(also_kept=True)  # removes what a killed run has left, as the next run there would
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def private_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty XDG_CACHE_HOME."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "assay9"
