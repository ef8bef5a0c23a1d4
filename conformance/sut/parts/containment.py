"""A mount namespace in which a server can write only its own directories.

Why: the cases send hostile requests to servers that run as root. nfs-ganesha treats an absolute name in Trenameat as a
path of the host: one such case moved /etc of its machine into the export, and the clean-up after the case removed it.
So the suite never starts a server without this, and there is no fallback. A rename or a link across the border fails
with EXDEV, a write outside with EROFS.

Rule of this module: it runs between fork and exec; system calls only, no logging, no locks.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 1 << 18
_SYS_MOUNT_SETATTR = 442
"""The same number on every architecture that Linux runs on."""
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_ATTR_RDONLY = 1
_OWN = b"size=512m,nr_inodes=200k,mode=755"
_libc = ctypes.CDLL(None, use_errno=True)


def contain(writable: Sequence[bytes], own: Sequence[bytes] = ()) -> None:
    """Enter a new mount namespace where only `writable` directories can be written.

    On each directory of `own` an empty private file system in memory is mounted: for a server that finds files by their
    device, past every bind mount. From outside it is /proc/<pid>/root/<directory>. Raises OSError when any step fails;
    the caller must not go on then.
    """
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check(_libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "mount --make-rprivate /")
    for directory in writable:
        _check(_libc.mount(directory, directory, None, _MS_BIND, None), "mount --bind")
    _set_attributes(b"/", _AT_RECURSIVE, _MOUNT_ATTR_RDONLY, 0)
    for directory in writable:
        _set_attributes(directory, 0, 0, _MOUNT_ATTR_RDONLY)
    for directory in own:
        _check(_libc.mount(b"assay9", directory, b"tmpfs", 0, _OWN), "mount -t tmpfs")
    if _can_write(b"/etc") or not all(_can_write(directory) for directory in (*writable, *own)):
        raise OSError(0, "the mount namespace does not contain what it should")


def _set_attributes(path: bytes, flags: int, add: int, remove: int) -> None:
    attributes = struct.pack("QQQQ", add, remove, 0, 0)
    done = _libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, path, flags, attributes, ctypes.c_size_t(len(attributes)))
    _check(done, "mount_setattr")


def _can_write(directory: bytes) -> bool:
    # access(2) refuses on a read-only mount, whoever asks
    return os.access(directory, os.W_OK)


def _check(done: int, what: str) -> None:
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
