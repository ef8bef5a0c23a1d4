"""Removing trees, checking for free space, and files that a user names."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import subprocess
from io import BufferedReader
from pathlib import Path

from guests.errors import InfrastructureError


def remove_tree(path: Path) -> None:
    """Remove ``path`` and all below it; files that cannot be removed stay, without an error.

    File systems mounted below it are detached first: their content must not be removed.
    """
    for mount_point in mounts_below(path):
        subprocess.run(["umount", "--lazy", mount_point], capture_output=True, check=False, timeout=60)
    if mounts_below(path):
        return
    shutil.rmtree(path, ignore_errors=True)
    if os.geteuid() != 0 and path.exists():
        # A killed build without root leaves files of the user's subordinate uids: only root of a user namespace that
        # maps those can remove them.
        argv = ["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", "--", str(path)]
        subprocess.run(argv, capture_output=True, check=False, timeout=120)


def mounts_below(path: Path) -> list[str]:
    """Mount points at or below ``path``, the deepest first. Source: proc(5), /proc/PID/mountinfo."""
    top = os.fsencode(path.resolve())
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        point = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), line.split()[4])
        if point == top or point.startswith(top + b"/"):
            found.append(os.fsdecode(point))
    return sorted(found, reverse=True)


def require_space(path: Path, needed_mb: int, what: str) -> None:
    """Raise InfrastructureError unless the file system of ``path`` has ``needed_mb`` megabytes free."""
    free_mb = shutil.disk_usage(path).free // 1_000_000
    if free_mb < needed_mb:
        raise InfrastructureError(
            f"{what} needs {needed_mb} MB in {path}, and {free_mb} MB are free",
            "free some space there, or set XDG_CACHE_HOME and TMPDIR to a larger file system",
        )


def opened(path: Path) -> BufferedReader:
    """A regular file, to read. Raises OSError, also for a pipe, a socket or a device: whoever reads those may wait
    for ever, and what they give can be read only once, where several processes of a run read a file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        what = "it is a pipe: write it to a file first" if stat.S_ISFIFO(mode) else "it is not a regular file"
        raise OSError(
            errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL,
            os.strerror(errno.EISDIR) if stat.S_ISDIR(mode) else what,
            str(path),
        )
    return os.fdopen(descriptor, "rb")


def content(path: Path) -> bytes:
    """What a regular file holds. Raises OSError, see `opened`."""
    with opened(path) as file:
        return file.read()


def put(path: Path, data: bytes) -> None:
    """Write a file, from its beginning. Raises OSError, also for a pipe that nobody reads.

    To open such a pipe as a file is opened would wait for ever.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise OSError(errno.ENXIO, "it is a pipe that nobody reads", str(path)) from None
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
