"""A part of a run's cases: `--shard I/N`. All parts together make up the run, and no case is in two of them.

Each process computes its part itself, from the same cases and recorded durations, without a coordinator.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from conformance.errors import UsageError
from guests.host.files import content

Item = TypeVar("Item")
USUAL = 0.2
"""Seconds of a case that no recorded run has."""


def shard_of(text: str) -> tuple[int, int]:
    """`3/8` as (3, 8). Raises UsageError."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    number, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= of:
        raise UsageError(f"--shard {text}: give I/N, the I-th of N parts, e.g. 3/8")
    return number, of


def read_durations(path: Path) -> dict[str, float]:
    """Case id with parameters -> seconds, from a plan. Raises UsageError."""
    try:
        table = json.loads(content(path))["durations"]
        return {str(case): float(seconds) for case, seconds in table.items()}
    except OSError as e:
        raise UsageError(f"--plan: {path} cannot be read: {e.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(f"--plan: {path} is not a plan: `assay9 plan MATRIX.toml` makes one") from None


def part(
    items: Sequence[Item], name: Callable[[Item], tuple[str, str]], shard: tuple[int, int], seconds: Mapping[str, float]
) -> list[Item]:
    """The items of one shard, in their order. The longest are assigned first, each to the shard with the least so far.

    `name` gives id and mount, which break ties, so the order of collection does not matter.
    """
    number, of = shard
    loads = [0.0] * of
    mine: set[tuple[str, str]] = set()
    cost = {name(item): seconds.get(name(item)[0], USUAL) for item in items}
    for key in sorted(cost, key=lambda key: (-cost[key], key)):
        least = min(range(of), key=loads.__getitem__)
        loads[least] += cost[key]
        if least == number - 1:
            mine.add(key)
    return [item for item in items if name(item) in mine]
