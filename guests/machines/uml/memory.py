"""Where the guest's memory goes: User-Mode Linux needs a sparse file that it may map executable."""

from __future__ import annotations

import os
from pathlib import Path

from guests.errors import InfrastructureError


def memory_root(needed_mb: int, wanted: Path | None = None) -> Path:
    """The directory to use: ``wanted``, else TMPDIR, else /dev/shm. Raises InfrastructureError if it is unsuitable.

    /dev/shm is memory already, so nothing is written to a disk; TMPDIR selects another place.
    """
    asked = os.environ.get("TMPDIR")
    path = wanted or Path(asked or "/dev/shm")
    remedy = f"set TMPDIR to a directory with {needed_mb} MB free on a file system that is not mounted noexec"
    try:
        found = os.statvfs(path)
    except OSError as error:
        raise InfrastructureError(f"the guest's memory cannot be in {path}: {error.strerror}", remedy) from error
    if found.f_flag & os.ST_NOEXEC:
        raise InfrastructureError(f"{path} is mounted noexec: User-Mode Linux cannot have its memory there", remedy)
    free_mb = found.f_bavail * found.f_frsize // 1_000_000
    if free_mb < needed_mb:
        raise InfrastructureError(f"{path} has {free_mb} MB free and the guest's memory needs {needed_mb} MB", remedy)
    if not os.access(path, os.W_OK | os.X_OK):
        raise InfrastructureError(f"{path}, for the guest's memory, is not writable for you", remedy)
    return path
