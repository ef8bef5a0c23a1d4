"""A pytest plugin for `access.py`: SSH to a guest takes ASSAY9_BENCHMARK_LATENCY more seconds per round trip."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from guests.access import ssh
from guests.machines.qemu import launch
from tests.slow_network import proxied

LATENCY = "ASSAY9_BENCHMARK_LATENCY"
_open = contextlib.ExitStack()


def _image_shell(port: int, key: Path, known_host: Path, limit: float = 30.0) -> ssh.SshShell:
    return ssh.image_shell(_open.enter_context(proxied(port, float(os.environ[LATENCY]))), key, known_host, limit)


def pytest_configure() -> None:
    """Lead each connection to a QEMU guest through a proxy."""
    launch.image_shell = _image_shell  # type: ignore[assignment, attr-defined]


def pytest_unconfigure() -> None:
    """End the proxies."""
    _open.close()
