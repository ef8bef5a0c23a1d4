"""Fixtures for every part."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# an example that takes long says that the machine is busy, nothing about what is tested
settings.register_profile("assay9", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("assay9")


@pytest.fixture
def private_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """XDG_RUNTIME_DIR for this test alone; short, because sockets live in it."""
    directory = Path(tempfile.mkdtemp(prefix="a9-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
