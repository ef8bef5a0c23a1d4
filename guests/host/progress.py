"""How long-running work reports progress: one short line at a time to the caller's function."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]
"""Receives one line without a newline. Must not raise and must not block."""


def silent(line: str) -> None:
    """Report nothing."""
