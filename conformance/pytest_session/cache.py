"""What pytest remembers from run to run (`--lf`, `--nf`): kept for each target, and dropped if damaged."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.evidence.earlier import directory_name

_SHAPES: dict[str, Callable[[object], bool]] = {
    "lastfailed": lambda value: isinstance(value, dict),
    "nodeids": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
}
"""What pytest reads at its start, without a check. Source: _pytest/cacheprovider.py."""


def own_cache(config: pytest.Config, target: str) -> None:
    """Set the target's own directory, beside its runs. (pytest has no public way to set it late.)"""
    directory = Path(config.getoption("--results")).absolute() / ".pytest_cache" / directory_name(target)
    config._inicache["cache_dir"] = str(directory)
    for name, right in _SHAPES.items():
        file = directory / "v" / "cache" / name
        with contextlib.suppress(OSError):
            try:
                value = json.loads(file.read_bytes())
            except ValueError:
                continue  # pytest treats it as empty
            except RecursionError:
                value = None
            if not right(value):
                file.unlink()
