"""Where this package keeps things on the host: the cache (may be deleted at any time) and run-time state."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from guests.errors import InfrastructureError


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/assay9`` (default ``~/.cache/assay9``); created when absent."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return _made(root / "assay9")


def images_dir() -> Path:
    """Built guest images, one directory each."""
    return _made(cache_dir() / "images")


def scratch_dir() -> Path:
    """Where exported directories and other scratch files are made: ``$ASSAY9_SCRATCH``, or /var/tmp."""
    return Path(os.environ.get("ASSAY9_SCRATCH", "/var/tmp"))


def snapshots_dir() -> Path:
    """Booted machines saved with ``savevm``, one directory each."""
    return _made(cache_dir() / "snapshots")


def runtime_dir() -> Path:
    """A short path private to this user, for sockets and state files.

    It is short because a UNIX socket path has at most 107 bytes, and a results directory can be longer.
    """
    base = os.environ.get("XDG_RUNTIME_DIR") or ""
    if base.startswith("/") and os.access(base, os.W_OK):
        return _private(Path(base) / "assay9")
    return _private(Path(tempfile.gettempdir()) / f"assay9-{os.getuid()}")


def running_dir() -> Path:
    """One JSON file per machine that is (or was, before a ``kill -9``) running."""
    return _made(runtime_dir() / "running")


def _made(path: Path) -> Path:
    remedy = "set XDG_CACHE_HOME to a directory that you can write"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfrastructureError(f"cannot create {path}: {error.strerror}", remedy) from error
    # Even a run with all images in the cache writes here: locks, and each machine's copy of its disk.
    if not os.access(path, os.W_OK | os.X_OK):
        raise InfrastructureError(f"{path} is not writable (read-only, or another user's)", remedy)
    return path


def _private(path: Path) -> Path:
    """Create it with mode 0700, or check that it is ours: other users share /tmp."""
    try:
        path.mkdir(mode=0o700, parents=False, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise InfrastructureError(
            f"cannot create {path}: {error.strerror}", "set XDG_RUNTIME_DIR to a directory that you can write"
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise InfrastructureError(f"{path} is not a directory private to you", "remove it, or set XDG_RUNTIME_DIR")
    return path
