"""Errnos that a refusal may carry where the protocol leaves the choice: one set per reason, each member with
the server that answers so or the text that asks for it.

Rule of this module: sets and their sources, nothing else. A set says what has been seen to be harmless; an
errno outside it is shown as a finding and can be argued for here, with a source.
"""

from __future__ import annotations

from typing import Final

from protocol.constants import (
    E2BIG,
    EACCES,
    EAGAIN,
    EBADF,
    EBADMSG,
    EBUSY,
    ECONNREFUSED,
    EEXIST,
    EFBIG,
    EILSEQ,
    EINVAL,
    EIO,
    EISDIR,
    ELOOP,
    EMFILE,
    EMSGSIZE,
    ENAMETOOLONG,
    ENFILE,
    ENOBUFS,
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
    EPROTO,
    ERANGE,
    ESPIPE,
)

UNKNOWN_FID: Final = frozenset({EBADF, EINVAL, ENOENT, EIO, ERANGE})
"""EBADF: hugelgupf/p9 handlers.go, crosvm p9 server; EINVAL: QEMU v9fs_read, v9fs_write, v9fs_readdir, lib9p
l9p_dispatch; ENOENT: QEMU elsewhere, lib9p for Twalk; EIO: diod np_fid_find callers, nfs-ganesha; ERANGE:
nfs-ganesha for numbers above 1023."""

FID_IN_USE: Final = frozenset({EINVAL, EBADF, EIO, EEXIST, EBUSY})
"""EINVAL: QEMU alloc_fid callers, lib9p; EBADF: crosvm attach and walk; EIO: diod; EEXIST and EBUSY say the same
in plain words."""

WRONG_STATE: Final = frozenset({EBADF, EINVAL, EIO, EBUSY})
"""A fid that is open where it must not be, or the other way round. EBADF: diod, crosvm; EINVAL: QEMU (fid_type
checks); EIO: nfs-ganesha; EBUSY: a fid that is open already."""

NOT_FOR_READING: Final = frozenset({EBADF, EINVAL, EACCES, EPERM})
"""Reading or writing against the open mode. EBADF: read(2), write(2) as QEMU and diod hand them on; EINVAL:
hugelgupf/p9; EACCES, EPERM: open(5) "permission denied"."""

READ_OF_DIRECTORY: Final = frozenset({EISDIR, EINVAL, EBADF, EIO, EOPNOTSUPP})
"""Tread on a directory. EISDIR: read(2); EOPNOTSUPP: QEMU v9fs_read under 9P2000.L; EIO: diod np_read; EINVAL,
EBADF: hugelgupf/p9, crosvm."""

NOT_A_DIRECTORY: Final = frozenset({ENOTDIR, EINVAL, EIO, ENOENT})
"""A file where a directory is wanted. ENOTDIR: path_resolution(7), QEMU, diod, crosvm; EINVAL: hugelgupf/p9,
QEMU v9fs_readdir on a fid without directory stream; ENOENT: QEMU name_to_path through a file; EIO: nfs-ganesha."""

ILLEGAL_NAME: Final = frozenset({ENOENT, EINVAL, EACCES, EPERM, EIO, ENOTDIR, EISDIR, EEXIST, EPROTO, EBADMSG})
"""A name that is empty or holds a slash. ENOENT: QEMU name_is_illegal; EINVAL: hugelgupf/p9 checkSafeName,
crosvm; EACCES, EPERM: kvmtool, WSL; ENOTDIR, EISDIR, EEXIST: what the kernel says to such a last component;
EPROTO, EBADMSG: refused while decoding; EIO: diod."""

NUL_IN_NAME: Final = ILLEGAL_NAME | {EILSEQ, ENAMETOOLONG}
"""A NUL byte inside a name, which Linux file names cannot have: as ILLEGAL_NAME; EILSEQ: not representable."""

DOT_NAME: Final = frozenset({EEXIST, EISDIR, EINVAL, EBUSY, ENOTEMPTY, EPERM, EACCES, ENOENT, ENOTDIR, EIO})
"""`.` or `..` as the name of what shall be made, moved or removed. EEXIST: QEMU v9fs_lcreate, mkdir, mknod, link;
EISDIR: QEMU v9fs_renameat, unlink(2); EINVAL, ENOTEMPTY: QEMU v9fs_unlinkat, rmdir(2); EBUSY: rename(2);
EPERM, EACCES, ENOENT, ENOTDIR: servers that take them for no names at all."""

NAME_TOO_LONG: Final = frozenset({ENAMETOOLONG, EINVAL, ENOENT, E2BIG, EMSGSIZE, EIO})
"""ENAMETOOLONG: path_resolution(7); ENOENT: a look-up of what cannot exist; EINVAL, E2BIG, EMSGSIZE, EIO:
refused before the file system is asked."""

TOO_MANY_NAMES: Final = frozenset({EINVAL, EIO, E2BIG, EPROTO, EBADMSG, EMSGSIZE, ENAMETOOLONG})
"""A Twalk of more than MAXWELEM names. EINVAL: QEMU v9fs_walk; EIO: diod np_walk; the rest: refused while
decoding."""

MALFORMED: Final = frozenset({EINVAL, EIO, EPROTO, EBADMSG, EMSGSIZE, E2BIG, ENOENT, EOPNOTSUPP, ENOSYS, ERANGE})
"""A frame whose fields do not fit into it. EINVAL: QEMU v9fs_iov_vunmarshal; EIO: diod np_deserialize; EPROTO,
EBADMSG: by name; EMSGSIZE, E2BIG, ERANGE: about lengths; EOPNOTSUPP, ENOSYS: not understood; ENOENT: QEMU
where what was decoded first names no fid."""

NO_SUCH_MESSAGE: Final = frozenset({EOPNOTSUPP, ENOSYS, EINVAL, EIO, EPROTO, EBADMSG})
"""A message type that the server does not know. EOPNOTSUPP: QEMU v9fs_op_not_supp, and what Linux tests for
before it falls back (fs/9p/vfs_inode.c); ENOSYS: lib9p, hugelgupf/p9; the others: refused while decoding."""

BAD_COUNT: Final = frozenset({EINVAL, EIO, EMSGSIZE, E2BIG, ERANGE, EOVERFLOW, ENOMEM})
"""A count that does not fit msize, where the server refuses instead of returning less. EIO: diod np_read; the
others say the same by name."""

BAD_OFFSET: Final = frozenset({EINVAL, EFBIG, EOVERFLOW, EIO, ENOSPC, ERANGE, ESPIPE})
"""An offset that no off_t can hold or no file can have. EINVAL: pread(2), pwrite(2); EFBIG: pwrite(2) past the
largest file; EOVERFLOW: lseek(2); ENOSPC: the file system first."""

NOT_A_LINK: Final = frozenset({EINVAL, EIO})
"""Treadlink of something else. EINVAL: readlink(2)."""

LINK_NOT_FOLLOWED: Final = frozenset({ELOOP, EINVAL, EPERM, EACCES, ENXIO, EOPNOTSUPP, EIO, EBADF, EISDIR})
"""Opening what is a symbolic link. ELOOP: open(2) with O_NOFOLLOW, QEMU; EINVAL, EPERM, EACCES: refused by type;
ENXIO: QEMU since the fix of CVE-2023-2861 (no regular file or directory)."""

NOT_OPENED: Final = frozenset({ENXIO, EACCES, EPERM, EINVAL, EOPNOTSUPP, ENODEV, EIO, EBADF})
"""Opening a host device, fifo or socket. ENXIO: QEMU since CVE-2023-2861, open(2) of a socket; EACCES, EPERM:
refused by type (kvmtool 4d2c017); ENODEV: open(2)."""

NO_AUTH: Final = frozenset({EOPNOTSUPP, ENOSYS, EPERM, EINVAL, EIO, ENOENT, ECONNREFUSED, EACCES})
"""Tauth where no authentication is required. EOPNOTSUPP: QEMU; ENOSYS: hugelgupf/p9, lib9p; EPERM: crosvm,
diod (auth not enabled); ECONNREFUSED, EIO, ENOENT: v9fs's test servers."""

TOO_SMALL: Final = frozenset({EMSGSIZE, EIO, EINVAL, EPROTO, ERANGE})
"""A proposed msize in which no session is possible. EMSGSIZE: QEMU v9fs_version below 4096; EIO: diod np_version."""

DOES_NOT_FIT: Final = frozenset({EMSGSIZE, EIO, EINVAL, ENAMETOOLONG, ENOBUFS, EOVERFLOW, ERANGE, E2BIG})
"""A reply that msize has no room for."""

FULL: Final = frozenset({EMFILE, ENFILE, ENOMEM, ENOSPC, EAGAIN, EBUSY})
"""A limit that a guest has driven the server to. EMFILE, ENFILE: open(2); ENOSPC: QEMU's limit on xattr fids."""

NO_XATTR: Final = frozenset({ENODATA})
"""The attribute is not there: getxattr(2); v9fs hands it to the caller (GitLab qemu#1010: QEMU on darwin)."""

XATTR_TOO_LARGE: Final = frozenset({E2BIG, ENOSPC, EINVAL, ERANGE, ENOMEM, EIO, EMSGSIZE, EOPNOTSUPP, EFBIG})
"""A value larger than any attribute. E2BIG: setxattr(2), QEMU v9fs_xattrcreate; ENOSPC: QEMU for what has no room;
ERANGE: setxattr(2) of a name; ENOMEM: a buffer that was not to be had."""
