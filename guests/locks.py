"""One builder at a time per cached thing, and directories that appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guests.errors import InfrastructureError
from guests.progress import Progress


@contextmanager
def exclusive(path: Path, what: str, progress: Progress, limit: float = 1800.0) -> Iterator[None]:
    """Hold the lock file ``path``; wait up to ``limit`` seconds for whoever holds it.

    A flock goes away with its holder, so a killed builder leaves no stale lock.
    """
    deadline = time.monotonic() + limit
    with path.open("a") as handle:
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    progress(f"waiting: another run is making {what}")
                    told = True
                if time.monotonic() > deadline:
                    raise InfrastructureError(
                        f"another run has been making {what} for {limit:.0f} s", f"end it, then remove {path}"
                    ) from None
                time.sleep(0.2)
        yield


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Yield an empty temporary directory that becomes ``target`` when the block ends well.

    Call it with the lock of ``target`` held: leftovers of killed builders are removed here.
    """
    prefix = f".{target.name}.tmp-"
    for stale in target.parent.glob(f"{prefix}*"):
        remove_tree(stale)
    temporary = target.parent / f"{prefix}{os.getpid()}"
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            remove_tree(target)
        temporary.rename(target)
    except BaseException:
        remove_tree(temporary)
        raise


def remove_tree(path: Path) -> None:
    """Remove ``path`` and all below it; what cannot be removed stays without an error."""
    shutil.rmtree(path, ignore_errors=True)


def require_space(path: Path, needed_mb: int, what: str) -> None:
    """Raise InfrastructureError unless the file system of ``path`` has ``needed_mb`` megabytes free."""
    free_mb = shutil.disk_usage(path).free // 1_000_000
    if free_mb < needed_mb:
        raise InfrastructureError(
            f"{what} needs {needed_mb} MB in {path}, and {free_mb} MB are free",
            "free some space, or set XDG_CACHE_HOME to a larger file system",
        )
