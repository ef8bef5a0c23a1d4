"""The selection of cases beyond layers, families and -k, and their order: --only, --order."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from conformance.errors import UsageError
from guests.host.files import content

Key = tuple[str, str]
"""Id and mount."""
Item = TypeVar("Item")


def write_only(keys: Iterable[Key], path: Path) -> None:
    """The file that --only reads; its directory need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([list(key) for key in keys]), encoding="utf-8")


def read_only(path: Path) -> frozenset[Key]:
    """The cases of a file of --only. Raises UsageError."""
    try:
        return frozenset((str(case), str(mount)) for case, mount in json.loads(content(path)))
    except OSError as e:
        raise UsageError(f"--only: {path} cannot be read: {e.strerror}") from None
    except (ValueError, TypeError, RecursionError):
        raise UsageError(f"--only: {path} is not a list of [id, mount]") from None


def shuffled(items: Iterable[Item], mount: Callable[[Item], str], seed: str) -> list[Item]:
    """The items in random order, the same for one seed: one mount after the other, the cases of each shuffled."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(mount(item), []).append(item)
    order = random.Random(seed)
    mounts = sorted(groups)
    order.shuffle(mounts)
    for group in groups.values():
        order.shuffle(group)
    return [item for name in mounts for item in groups[name]]
