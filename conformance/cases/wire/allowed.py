"""Errnos that a refusal may carry where the protocol leaves the choice: one set per reason. Each member names the
server that gives it or the text that demands it.

Rule of this module: sets and their sources, nothing else. A case demands that a request is refused. An errno outside
its set is reported separately, as `varies` (`conformance.raw.expectation.Choice`); it can be added here with a source.
Errnos that Linux acts on or that its callers know are named in the cases themselves.
"""

from __future__ import annotations

from typing import Final

from conformance.raw.expectation import Choice
from protocol.constants import (
    E2BIG,
    EACCES,
    EAGAIN,
    EBADF,
    EBUSY,
    ECONNREFUSED,
    EEXIST,
    EFBIG,
    EINVAL,
    EIO,
    EISDIR,
    ELOOP,
    EMFILE,
    EMSGSIZE,
    ENAMETOOLONG,
    ENFILE,
    ENODATA,
    ENODEV,
    ENOENT,
    ENOMEM,
    ENOSPC,
    ENOSYS,
    ENOTDIR,
    ENOTEMPTY,
    ENXIO,
    EOPNOTSUPP,
    EOVERFLOW,
    EPERM,
    ERANGE,
    ESTALE,
    EXDEV,
)

UNKNOWN_FID: Final = Choice({EBADF, EINVAL, ENOENT, EIO, ERANGE})
"""EBADF: hugelgupf/p9 handlers.go, crosvm p9 server; EINVAL: QEMU v9fs_read, v9fs_write, v9fs_readdir, lib9p
l9p_dispatch; ENOENT: QEMU elsewhere, lib9p for Twalk; EIO: diod np_fid_find callers, nfs-ganesha; ERANGE:
nfs-ganesha for numbers above 1023."""

FID_IN_USE: Final = Choice({EINVAL, EBADF, EIO})
"""EINVAL: QEMU alloc_fid callers, lib9p; EBADF: crosvm attach and walk; EIO: diod."""

WRONG_STATE: Final = Choice({EBADF, EINVAL, EIO})
"""A fid that is open where it must not be, or the other way round. EBADF: diod, crosvm; EINVAL: QEMU (fid_type
checks); EIO: nfs-ganesha."""

NOT_A_DIRECTORY_STREAM: Final = WRONG_STATE | {ENOTDIR}
"""Treaddir of a fid that is not open as a directory. ENOTDIR: QEMU v9fs_readdir of a fid without a stream."""

NOT_FOR_READING: Final = Choice({EBADF, EINVAL})
"""Reading or writing against the open mode. EBADF: read(2), write(2) as QEMU and diod hand them on; EINVAL:
hugelgupf/p9."""

READ_OF_DIRECTORY: Final = Choice({EISDIR, EINVAL, EBADF, EIO, EOPNOTSUPP})
"""Tread on a directory. EISDIR: read(2); EOPNOTSUPP: QEMU v9fs_read under 9P2000.L; EIO: diod np_read; EINVAL,
EBADF: hugelgupf/p9, crosvm."""

NOT_A_DIRECTORY: Final = Choice({ENOTDIR, EINVAL, EIO, ENOENT})
"""A file where a directory is wanted. ENOTDIR: path_resolution(7), QEMU, diod, crosvm; EINVAL: hugelgupf/p9,
QEMU v9fs_readdir on a fid without directory stream; ENOENT: QEMU name_to_path through a file; EIO: nfs-ganesha."""

ILLEGAL_NAME: Final = Choice({ENOENT, EINVAL, EACCES, EPERM, EIO, ENOTDIR, EISDIR, EEXIST})
"""A name that is empty or holds a slash. ENOENT: QEMU name_is_illegal; EINVAL: hugelgupf/p9 checkSafeName,
crosvm; EACCES, EPERM: kvmtool, WSL; ENOTDIR, EISDIR, EEXIST: what the kernel says to such a last component
(path_resolution(7), open(2), mkdir(2)); EIO: diod."""

NUL_IN_NAME: Final = ILLEGAL_NAME
"""A NUL byte inside a name, which no name of a Linux file can hold: as ILLEGAL_NAME."""

DOT_NAME: Final = Choice({EEXIST, EISDIR, EINVAL, EBUSY, ENOTEMPTY, ENOENT})
"""`.` or `..` as the name of what shall be made, moved or removed. EEXIST: QEMU v9fs_lcreate, mkdir, mknod, link;
EISDIR: QEMU v9fs_renameat, unlink(2); EINVAL, ENOTEMPTY: QEMU v9fs_unlinkat, rmdir(2); EBUSY: rename(2);
ENOENT: QEMU name_is_illegal."""

NAME_TOO_LONG: Final = Choice({ENAMETOOLONG, ENOENT, EIO})
"""ENAMETOOLONG: path_resolution(7); ENOENT: a look-up of what cannot exist; EIO: diod, for what does not fit its
buffers."""

TOO_MANY_NAMES: Final = Choice({EINVAL, EIO})
"""A Twalk of more than MAXWELEM names. EINVAL: QEMU v9fs_walk; EIO: diod np_walk."""

MALFORMED: Final = Choice({EINVAL, EIO, ENOENT, EOPNOTSUPP, ENOSYS, EBADF, ENAMETOOLONG})
"""A frame whose fields do not fit into it. EINVAL: QEMU v9fs_iov_vunmarshal; EIO: diod np_deserialize; ENOENT: QEMU
where what was decoded first names no fid; EOPNOTSUPP, ENOSYS: as a message that is not known; EBADF, ENAMETOOLONG: of
the fields that could be read (UNKNOWN_FID, NAME_TOO_LONG)."""

LONGER_THAN_MSIZE: Final = MALFORMED | {EMSGSIZE}
"""A request longer than the msize that was agreed. EMSGSIZE: errno(3), "message too long"; else as MALFORMED."""

NO_SUCH_MESSAGE: Final = Choice({EOPNOTSUPP, ENOSYS})
"""A message type that the server does not know. EOPNOTSUPP: QEMU v9fs_op_not_supp, and what Linux tests for
before it falls back (fs/9p/vfs_inode.c); ENOSYS: lib9p, hugelgupf/p9."""

BAD_COUNT: Final = Choice({EINVAL, EIO, EMSGSIZE})
"""A count that does not fit msize, where the server refuses instead of returning less. EIO: diod np_read; EINVAL:
read(2); EMSGSIZE: errno(3), "message too long"."""

SMALL_COUNT: Final = Choice({EINVAL, EIO})
"""A count of Treaddir in which no entry fits. EINVAL: getdents(2); EIO: diod np_readdir."""

BAD_OFFSET: Final = Choice({EINVAL, EFBIG, EOVERFLOW, ENOSPC})
"""An offset that no off_t can hold or no file can have. EINVAL: pread(2), pwrite(2); EFBIG: pwrite(2) past the
largest file; EOVERFLOW: lseek(2); ENOSPC: QEMU v9fs_xattr_write, and the file system first."""

BAD_COOKIE: Final = Choice({EINVAL, ENOENT, EOVERFLOW, EPERM})
"""An offset of Treaddir that no entry had. EINVAL, EOVERFLOW: lseek(2) of a directory; ENOENT: getdents(2); EPERM: QEMU
v9fs_do_readdir for 2^64 - 1, which its seekdir takes for -1."""

NOT_A_LINK: Final = Choice({EINVAL, EIO})
"""Treadlink of something else. EINVAL: readlink(2); EIO: nfs-ganesha."""

LINK_NOT_FOLLOWED: Final = Choice({ELOOP, EINVAL, EPERM, EACCES, ENXIO})
"""Opening what is a symbolic link. ELOOP: open(2) with O_NOFOLLOW, QEMU; EINVAL, EPERM, EACCES: refused by type
(hugelgupf/p9, kvmtool, WSL); ENXIO: QEMU since the fix of CVE-2023-2861 (no regular file or directory)."""

NOT_OPENED: Final = Choice({ENXIO, EACCES, EPERM, ENODEV})
"""Opening a host device, fifo or socket. ENXIO: QEMU since CVE-2023-2861, open(2) of a socket; EACCES, EPERM:
refused by type (kvmtool 4d2c017); ENODEV: open(2)."""

NO_AUTH: Final = Choice({EOPNOTSUPP, ENOSYS, EPERM, ECONNREFUSED, EIO, ENOENT})
"""Tauth where no authentication is required. EOPNOTSUPP: QEMU; ENOSYS: hugelgupf/p9, lib9p; EPERM: crosvm,
diod (auth not enabled); ECONNREFUSED, EIO, ENOENT: v9fs's test servers."""

TOO_SMALL: Final = Choice({EMSGSIZE, EIO})
"""A proposed msize in which no session is possible. EMSGSIZE: QEMU v9fs_version below 4096; EIO: diod np_version."""

DOES_NOT_FIT: Final = Choice({EMSGSIZE, EIO})
"""A reply that msize has no room for. EMSGSIZE: errno(3), "message too long"; EIO: diod np_readlink."""

FULL: Final = Choice({EMFILE, ENFILE, ENOMEM, ENOSPC, EAGAIN})
"""A limit that a guest has driven the server to. EMFILE, ENFILE: open(2); ENOSPC: QEMU's limit on xattr fids; ENOMEM:
malloc(3); EAGAIN: fcntl(2), pthread_create(3)."""

BAD_RANGE: Final = Choice({EINVAL, EOVERFLOW})
"""A range of bytes that no off_t can hold. EINVAL, EOVERFLOW: fcntl(2)."""

NOT_SETTABLE_ON_LINK: Final = Choice({EOPNOTSUPP, ELOOP, EINVAL})
"""Mode or size of a symbolic link. EOPNOTSUPP: fchmodat(2) with AT_SYMLINK_NOFOLLOW; ELOOP: open(2) with O_NOFOLLOW;
EINVAL: truncate(2)."""

GONE: Final = Choice({ENOENT, ESTALE})
"""A fid of a file that was removed or replaced behind the server's back. ENOENT: servers that keep paths (QEMU local,
diod); ESTALE: open(2) of what NFS servers export, nfs-ganesha."""

ROOT_STAYS: Final = Choice({EBUSY, EINVAL, EPERM, EACCES, ENOTEMPTY, EEXIST, EISDIR, EXDEV})
"""Moving or removing the root of the export. EBUSY, EINVAL, ENOTEMPTY, EEXIST: rename(2), rmdir(2); EISDIR: unlink(2);
EPERM, EACCES: without permission above it; EXDEV: a root that is a mount."""

NO_NAMESPACE: Final = Choice({EOPNOTSUPP, EINVAL, EPERM, ENODATA})
"""An attribute's name in no namespace. EOPNOTSUPP: setxattr(2); EINVAL: xattr(7), a namespace without a name; EPERM:
xattr(7) of user.* on special files; ENODATA: getxattr(2)."""

XATTR_TOO_LARGE: Final = Choice({E2BIG, ENOSPC, ERANGE, EINVAL, ENOMEM})
"""A value larger than any attribute. E2BIG: setxattr(2), QEMU v9fs_xattrcreate; ENOSPC: QEMU for what has no room;
ERANGE: setxattr(2) of a name; EINVAL: QEMU v9fs_xattr_fid_clunk of what was not all written; ENOMEM: a buffer that was
not to be had."""

XATTR_NAME_TOO_LONG: Final = Choice({ERANGE, ENAMETOOLONG, EINVAL, E2BIG, ENODATA, EOPNOTSUPP})
"""An attribute's name beyond XATTR_NAME_MAX. ERANGE: setxattr(2); ENODATA, EOPNOTSUPP: getxattr(2); ENAMETOOLONG,
EINVAL, E2BIG: of lengths that a server checks itself."""

NO_ATTRIBUTE_NAME: Final = Choice({ERANGE, EINVAL, ENOENT, EOPNOTSUPP, ENODATA, EPERM})
"""An attribute without a name, or with a NUL in it. ERANGE: setxattr(2) of an empty name; EINVAL, ENOENT: as a file's
name (ILLEGAL_NAME); EOPNOTSUPP, ENODATA, EPERM: xattr(7) of names outside the namespaces."""

ATTRIBUTE_OF_LINK: Final = Choice({ENODATA, EPERM, EACCES, EOPNOTSUPP, ELOOP})
"""user.* attributes of a symbolic link. EPERM: xattr(7); ENODATA: lgetxattr(2); EOPNOTSUPP, ELOOP, EACCES: servers that
open with O_NOFOLLOW or refuse by type."""

READS_AS_FID: Final = WRONG_STATE | {EACCES, EPERM, EOPNOTSUPP, ENOENT, ENOTDIR}
"""An xattr fid used as a file's. WRONG_STATE; EOPNOTSUPP, ENOENT: QEMU, by fid_type or for want of a path; ENOTDIR: it
is not a directory; EACCES, EPERM: refused by type."""
