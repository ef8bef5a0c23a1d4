"""Which names may reach a store.

The rule of this module: a name that is not one component is refused before any system call. The errnos are QEMU's
(``name_is_illegal`` and the checks beside its callers in ``hw/9pfs/9p.c``).
"""

from __future__ import annotations

from protocol.constants import EEXIST, EINVAL, EISDIR, ENAMETOOLONG, ENOENT, ENOTEMPTY, NAME_MAX
from reference_server.errors import Refused


def looked_up(name: bytes) -> bytes:
    """``name`` if Twalk may look it up: a component, or ``..``.

    Raises Refused: ENOENT for an empty name, ``.``, a slash or a NUL (no file can have such a name),
    ENAMETOOLONG.
    """
    if not name or b"/" in name or b"\0" in name or name == b".":
        raise Refused(ENOENT)
    if len(name) > NAME_MAX:
        raise Refused(ENAMETOOLONG)
    return name


def created(name: bytes) -> bytes:
    """``name`` if something may be created under it.

    Raises Refused: EEXIST for ``.`` and ``..``, ENOENT for an empty name or a slash, EINVAL for a NUL,
    ENAMETOOLONG.
    """
    if name in (b".", b".."):
        raise Refused(EEXIST)
    return _component(name)


def removed(name: bytes) -> bytes:
    """``name`` if it may be removed. Raises Refused: EINVAL for ``.``, ENOTEMPTY for ``..``, else like ``created``."""
    if name == b".":
        raise Refused(EINVAL)
    if name == b"..":
        raise Refused(ENOTEMPTY)
    return _component(name)


def renamed(name: bytes) -> bytes:
    """``name`` if it may be the old or new name of a rename.  Raises Refused: EISDIR for ``.`` and ``..``."""
    if name in (b".", b".."):
        raise Refused(EISDIR)
    return _component(name)


def _component(name: bytes) -> bytes:
    if not name or b"/" in name:
        raise Refused(ENOENT)
    if b"\0" in name:
        raise Refused(EINVAL)
    if len(name) > NAME_MAX:
        raise Refused(ENAMETOOLONG)
    return name
