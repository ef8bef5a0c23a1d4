"""One builder at a time for each cache entry, and directories that appear atomically."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from guests.errors import InfrastructureError
from guests.host.files import remove_tree
from guests.host.processes import claimed
from guests.host.progress import Progress
from guests.host.waiting import happens


@contextmanager
def exclusive(path: Path, what: str, progress: Progress, limit: float = 1800.0) -> Iterator[None]:
    """Hold the lock file ``path``; wait up to ``limit`` seconds for its current holder.

    A flock ends with its holder, so a killed builder leaves no stale lock.
    """
    with path.open("a") as handle:
        if not _taken(handle):
            progress(f"waiting: another run is making {what}")
            if not happens(partial(_taken, handle), limit, 0.2):
                raise InfrastructureError(
                    f"another run has been making {what} for {limit:.0f} s", f"end it, then remove {path}"
                )
        yield


def _taken(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Yield an empty temporary directory that becomes ``target`` when the block ends well."""
    temporary = target.parent / f".{target.name}.tmp-{os.getpid()}"
    with claimed(temporary):
        temporary.mkdir()
        yield temporary
        if target.is_dir() and not target.is_symlink():
            remove_tree(target)
        else:
            target.unlink(missing_ok=True)
        temporary.rename(target)
