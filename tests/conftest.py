"""Fixtures for every part."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# an example that takes long says that the machine is busy, nothing about what is tested
settings.register_profile("assay9", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("assay9")


_OWN_SCOPE = ("module", "package", "session")


def pytest_configure(config: pytest.Config) -> None:
    """Commands that tests start are no workers of this run."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        os.environ.pop(name, None)


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
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def private_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty XDG_CACHE_HOME."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "assay9"
