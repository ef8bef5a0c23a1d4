"""Listening on a unix socket.

The rule of this module: only the owner may use the socket (mode 0600), and a path in use is never taken over.
"""

from __future__ import annotations

import errno
import os
import socket
import stat


def bind(path: str) -> socket.socket:
    """A socket bound to ``path``.  A dead socket left there by an earlier server is replaced.

    Raises OSError: EADDRINUSE when a server listens there, EEXIST when the path is something else.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        mask = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(mask)
    except OSError:
        sock.close()
        raise
    return sock


def unbind(path: str) -> None:
    """Remove the socket at ``path``, if it is one."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        return


def _clear(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "exists and is not a socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "a server listens there already", path)
