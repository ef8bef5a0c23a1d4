"""The messages of 9P2000 and 9P2000.u that 9P2000.L replaced, so that servers which speak only those can be
met.

The rule of this module: nothing here may be sent in a 9P2000.L session.  ``Rerror`` is the one to expect all
the same: servers have answered with it before a dialect was agreed (QEMU) or in the middle of a session
(nfs-ganesha).

Sources: the Plan 9 manual, section 5; the 9P2000.u draft.
"""

from __future__ import annotations

from typing import Annotated

from protocol.fields import Absent, Dialect, qid13, string, u8, u32
from protocol.registry import NOT_L, Message, Registry

REGISTRY = Registry()
BY_TYPE = REGISTRY.by_type
BY_NAME = REGISTRY.by_name
message = REGISTRY.message

u_errno = Annotated[u32, Absent(frozenset({Dialect.BASE}), 0)]
u_extension = Annotated[string, Absent(frozenset({Dialect.BASE}), b"")]


@message(106, "session", NOT_L)
class Terror(Message):
    """Illegal; stands here so that the number is taken."""


@message(107, "session", NOT_L)
class Rerror(Message):
    """The request failed.  error(5)"""

    ename: string
    errno: u_errno


@message(112, "open", NOT_L)
class Topen(Message):
    """Prepare ``fid`` for reading or writing.  open(5)"""

    fid: u32
    mode: u8


@message(113, "open", NOT_L)
class Ropen(Message):
    """The fid is open."""

    qid: qid13
    iounit: u32


@message(114, "open", NOT_L)
class Tcreate(Message):
    """Create ``name`` in directory ``fid`` and open it.  open(5)"""

    fid: u32
    name: string
    perm: u32
    mode: u8
    extension: u_extension


@message(115, "open", NOT_L)
class Rcreate(Message):
    """The file exists and the fid is open on it."""

    qid: qid13
    iounit: u32


@message(124, "attributes", NOT_L)
class Tstat(Message):
    """Ask for the attributes.  stat(5)"""

    fid: u32


@message(125, "attributes", NOT_L)
class Rstat(Message):
    """A machine-independent directory entry, itself counted; its inside is not decoded here."""

    stat: string


@message(126, "attributes", NOT_L)
class Twstat(Message):
    """Set the attributes.  stat(5)"""

    fid: u32
    stat: string


@message(127, "attributes", NOT_L)
class Rwstat(Message):
    """They are set."""
