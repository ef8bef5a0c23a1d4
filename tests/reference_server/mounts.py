"""File systems that a test mounts for itself."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(*arguments: str, at: Path) -> Iterator[Path]:
    """``mount ARGUMENTS AT`` for the block; skips the test where mount is not possible."""
    at.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(at)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    try:
        yield at
    finally:
        # The test may have unmounted it.
        subprocess.run(["umount", "-l", str(at)], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def overlay(folder: Path, *options: str) -> Iterator[Path]:
    """A directory of ``folder/lower`` on this file system under one in memory, joined by overlayfs."""
    lower, memory = folder / "lower", folder / "memory"
    lower.mkdir(exist_ok=True)
    with mounted("-t", "tmpfs", "none", at=memory):
        for name in ("upper", "work"):
            (memory / name).mkdir()
        places = [f"lowerdir={lower}", f"upperdir={memory}/upper", f"workdir={memory}/work"]
        with mounted("-t", "overlay", "none", "-o", ",".join([*places, *options]), at=folder / "joined") as joined:
            yield joined
