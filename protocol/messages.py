"""Every message of 9P2000.L, declared once: number, family, fields in wire order.

The rule of this module: declarations only.  To learn how a message travels read :mod:`protocol.codec`; to
learn what a server does with it open the module of its family under ``reference_server/handlers``; its cases
carry the same stem.

Numbers and layouts: chaos/diod ``protocol.md``; Linux ``net/9p/client.c`` where that text is silent
(``Tfsync.datasync`` was missing from it until diod#118).  Field names are those of the text.
"""

from __future__ import annotations

from typing import Annotated

from protocol.constants import NONUNAME
from protocol.fields import Absent, Dialect, Late, payload, qid13, qids, string, strings, u8, u16, u32, u64
from protocol.registry import ALL, Message, Registry

REGISTRY = Registry()
BY_TYPE = REGISTRY.by_type
"""Message class by type[1]."""
BY_NAME = REGISTRY.by_name
"""Message class by its name in the protocol."""
message = REGISTRY.message
reply_of = REGISTRY.reply_of


numeric_user = Annotated[u32, Absent(frozenset({Dialect.BASE}), NONUNAME)]
"""Numeric user id, which plain 9P2000 does not have."""


# --- session --------------------------------------------------------------------------------------


@message(100, "session", ALL)
class Tversion(Message):
    """Open a session: propose the largest message and the dialect.  Everything before it is forgotten.
    version(5)
    """

    msize: u32
    """Largest frame in bytes, size[4] included."""
    version: string


@message(101, "session", ALL)
class Rversion(Message):
    """The largest message and dialect that will hold; version ``unknown`` when none of the asked suits."""

    msize: u32
    version: string


@message(102, "session", ALL)
class Tauth(Message):
    """Ask for a fid to authenticate over.  attach(5), 9P2000.u"""

    afid: u32
    uname: string
    aname: string
    n_uname: numeric_user


@message(103, "session", ALL)
class Rauth(Message):
    """The authentication fid is ready."""

    aqid: qid13


@message(104, "session", ALL)
class Tattach(Message):
    """Introduce a user and make ``fid`` the root of the tree ``aname``.  attach(5), 9P2000.u"""

    fid: u32
    afid: u32
    """NOFID, or a fid that Tauth set up."""
    uname: string
    aname: string
    n_uname: numeric_user


@message(105, "session", ALL)
class Rattach(Message):
    """The root is bound."""

    qid: qid13


@message(108, "session", ALL)
class Tflush(Message):
    """Give up the request ``oldtag``, which must not be answered after the reply to this.  flush(5)"""

    oldtag: u16


@message(109, "session", ALL)
class Rflush(Message):
    """The request is over, one way or the other; its tag may be used again."""


@message(6, "session")
class Tlerror(Message):
    """Never sent; stands here so that the number is taken."""


@message(7, "session")
class Rlerror(Message):
    """The request failed."""

    ecode: u32
    """Linux errno, generic numbering."""


# --- walk -----------------------------------------------------------------------------------------


@message(110, "walk", ALL)
class Twalk(Message):
    """Step from ``fid`` through ``wnames``; if all exist ``newfid`` becomes the last.  walk(5)"""

    fid: u32
    newfid: u32
    wnames: strings


@message(111, "walk", ALL)
class Rwalk(Message):
    """Qids of the names that were there; fewer than asked: the walk stopped, ``newfid`` is untouched."""

    wqids: qids


@message(120, "walk", ALL)
class Tclunk(Message):
    """Forget ``fid``; it is gone even if this fails.  clunk(5)"""

    fid: u32


@message(121, "walk", ALL)
class Rclunk(Message):
    """The fid is free."""


# --- open -----------------------------------------------------------------------------------------


@message(12, "open")
class Tlopen(Message):
    """Prepare ``fid`` for reading or writing."""

    fid: u32
    flags: u32
    """Bits of :data:`protocol.constants.OPEN_FLAGS`."""


@message(13, "open")
class Rlopen(Message):
    """The fid is open."""

    qid: qid13
    iounit: u32
    """Most bytes one Tread or Twrite should carry; 0 leaves it to msize."""


@message(14, "open")
class Tlcreate(Message):
    """Create regular file ``name`` in directory ``fid``, open it, and let ``fid`` stand for it."""

    fid: u32
    name: string
    flags: u32
    mode: u32
    gid: u32


@message(15, "open")
class Rlcreate(Message):
    """The file exists and the fid is open on it."""

    qid: qid13
    iounit: u32


# --- io -------------------------------------------------------------------------------------------


@message(116, "io", ALL)
class Tread(Message):
    """Read ``count`` bytes at ``offset``; of a file, or of the value that Txattrwalk prepared.  read(5)"""

    fid: u32
    offset: u64
    count: u32


@message(117, "io", ALL)
class Rread(Message):
    """What was there; empty at the end of the file."""

    data: payload


@message(118, "io", ALL)
class Twrite(Message):
    """Write ``data`` at ``offset``.  read(5)"""

    fid: u32
    offset: u64
    data: payload


@message(119, "io", ALL)
class Rwrite(Message):
    """How many bytes were taken."""

    count: u32


@message(50, "io")
class Tfsync(Message):
    """Put what was written to ``fid`` on stable storage."""

    fid: u32
    datasync: Annotated[u32, Late(0)]
    """Not 0: as fdatasync(2).  The text of the protocol had no such field until chaos/diod#118: old clients do not send
    it."""


@message(51, "io")
class Rfsync(Message):
    """It is there."""


# --- directory ------------------------------------------------------------------------------------


@message(40, "directory")
class Treaddir(Message):
    """List an open directory, from ``offset``: 0, or the offset of the last entry seen."""

    fid: u32
    offset: u64
    count: u32


@message(41, "directory")
class Rreaddir(Message):
    """Whole entries, see :mod:`protocol.dirents`; empty at the end."""

    data: payload


@message(72, "directory")
class Tmkdir(Message):
    """Make directory ``name`` in ``dfid``."""

    dfid: u32
    name: string
    mode: u32
    gid: u32


@message(73, "directory")
class Rmkdir(Message):
    """The directory exists."""

    qid: qid13


# --- attributes -----------------------------------------------------------------------------------


@message(8, "attributes")
class Tstatfs(Message):
    """Ask for the size of the file system that holds ``fid``."""

    fid: u32


@message(9, "attributes")
class Rstatfs(Message):
    """statfs(2)."""

    fstype: u32
    """``type`` in the text; renamed because ``type`` is the message's own number here."""
    bsize: u32
    blocks: u64
    bfree: u64
    bavail: u64
    files: u64
    ffree: u64
    fsid: u64
    namelen: u32


@message(24, "attributes")
class Tgetattr(Message):
    """Ask for the attributes in ``request_mask``."""

    fid: u32
    request_mask: u64


@message(25, "attributes")
class Rgetattr(Message):
    """stat(2); only the fields named in ``valid`` mean anything."""

    valid: u64
    qid: qid13
    mode: u32
    uid: u32
    gid: u32
    nlink: u64
    rdev: u64
    size: u64
    blksize: u64
    blocks: u64
    """In units of 512 bytes."""
    atime_sec: u64
    atime_nsec: u64
    mtime_sec: u64
    mtime_nsec: u64
    ctime_sec: u64
    ctime_nsec: u64
    btime_sec: u64
    btime_nsec: u64
    gen: u64
    data_version: u64


@message(26, "attributes")
class Tsetattr(Message):
    """Set the attributes in ``valid``; a time without its SET bit becomes the server's now."""

    fid: u32
    valid: u32
    mode: u32
    uid: u32
    gid: u32
    size: u64
    atime_sec: u64
    atime_nsec: u64
    mtime_sec: u64
    mtime_nsec: u64


@message(27, "attributes")
class Rsetattr(Message):
    """They are set."""


# --- link -----------------------------------------------------------------------------------------


@message(16, "link")
class Tsymlink(Message):
    """Make symbolic link ``name`` to ``symtgt`` in directory ``fid``."""

    fid: u32
    name: string
    symtgt: string
    gid: u32


@message(17, "link")
class Rsymlink(Message):
    """The link exists."""

    qid: qid13


@message(22, "link")
class Treadlink(Message):
    """Ask where symbolic link ``fid`` points."""

    fid: u32


@message(23, "link")
class Rreadlink(Message):
    """Where it points, as stored."""

    target: string


@message(70, "link")
class Tlink(Message):
    """Make hard link ``name`` to ``fid`` in directory ``dfid``."""

    dfid: u32
    fid: u32
    name: string


@message(71, "link")
class Rlink(Message):
    """The link exists."""


# --- node -----------------------------------------------------------------------------------------


@message(18, "node")
class Tmknod(Message):
    """Make a device, fifo, socket or regular file ``name`` in ``dfid``; ``mode`` holds the type."""

    dfid: u32
    name: string
    mode: u32
    major: u32
    minor: u32
    gid: u32


@message(19, "node")
class Rmknod(Message):
    """The node exists."""

    qid: qid13


# --- rename ---------------------------------------------------------------------------------------


@message(20, "rename")
class Trename(Message):
    """Move the file of ``fid`` to ``name`` in ``dfid``; Linux uses it where Trenameat gave EOPNOTSUPP."""

    fid: u32
    dfid: u32
    name: string


@message(21, "rename")
class Rrename(Message):
    """It moved."""


@message(74, "rename")
class Trenameat(Message):
    """Move ``oldname`` in ``olddirfid`` to ``newname`` in ``newdirfid``."""

    olddirfid: u32
    oldname: string
    newdirfid: u32
    newname: string


@message(75, "rename")
class Rrenameat(Message):
    """It moved."""


# --- unlink ---------------------------------------------------------------------------------------


@message(76, "unlink")
class Tunlinkat(Message):
    """Remove ``name`` from directory ``dirfd`` (a fid, in spite of its name)."""

    dirfd: u32
    name: string
    flags: u32
    """AT_REMOVEDIR or 0."""


@message(77, "unlink")
class Runlinkat(Message):
    """It is gone; fids that stand for it stay."""


@message(122, "unlink", ALL)
class Tremove(Message):
    """Remove the file of ``fid`` and clunk the fid, which is gone even if the removal fails.  remove(5)"""

    fid: u32


@message(123, "unlink", ALL)
class Rremove(Message):
    """It is gone."""


# --- xattr ----------------------------------------------------------------------------------------


@message(30, "xattr")
class Txattrwalk(Message):
    """Make ``newfid`` stand for the value of extended attribute ``name``, or of the list of names when it is
    empty.
    """

    fid: u32
    newfid: u32
    name: string


@message(31, "xattr")
class Rxattrwalk(Message):
    """How many bytes there are to read."""

    size: u64


@message(32, "xattr")
class Txattrcreate(Message):
    """Make ``fid`` stand for a new value of ``attr_size`` bytes, set when it was written and ``fid`` is
    clunked.
    """

    fid: u32
    name: string
    attr_size: u64
    flags: u32
    """Bits of :data:`protocol.constants.XATTR_FLAGS`."""


@message(33, "xattr")
class Rxattrcreate(Message):
    """The fid awaits the value."""


# --- lock -----------------------------------------------------------------------------------------


@message(52, "lock")
class Tlock(Message):
    """Take or release a record lock, as fcntl(F_SETLK) does."""

    fid: u32
    locktype: u8
    """``type`` in the text; renamed because ``type`` is the message's own number here."""
    flags: u32
    """Bits of :data:`protocol.constants.LOCK_FLAGS`."""
    start: u64
    length: u64
    """0: to the end of the file, wherever that goes."""
    proc_id: u32
    client_id: string


@message(53, "lock")
class Rlock(Message):
    """What came of it: :data:`protocol.constants.LOCK_STATUS`."""

    status: u8


@message(54, "lock")
class Tgetlock(Message):
    """Ask which lock would stand in the way, as fcntl(F_GETLK) does."""

    fid: u32
    locktype: u8
    start: u64
    length: u64
    proc_id: u32
    client_id: string


@message(55, "lock")
class Rgetlock(Message):
    """The lock in the way; ``locktype`` UNLCK when there is none."""

    locktype: u8
    start: u64
    length: u64
    proc_id: u32
    client_id: string
