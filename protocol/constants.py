"""Numbers that 9P2000.L puts on the wire, as Linux defines them.

Sources: chaos/diod ``protocol.md``; Linux ``include/net/9p/9p.h`` and
``include/uapi/asm-generic/{errno,fcntl}.h``; the Plan 9 manual, section 5.  Open flags and error numbers are
those of the *generic* Linux ABI whatever machine either end runs on (Linux ``v9fs_open_to_dotl_flags``
translates; so must a server whose host differs).
"""

from __future__ import annotations

from typing import Final


def _named(prefix: str, *but: str) -> dict[str, int]:
    """The numbers declared so far whose names begin so, by what follows, in their order; without those of `but`."""
    numbers = {name: value for name, value in globals().items() if isinstance(value, int) and name not in but}
    return {name.removeprefix(prefix): value for name, value in numbers.items() if name.startswith(prefix)}


# --- numbers with a meaning of their own ----------------------------------------------------------

NOTAG: Final = 0xFFFF
"""Tag of Tversion: "no tag" (version(5))."""
NOFID: Final = 0xFFFFFFFF
"""As ``afid`` of Tattach: no authentication took place (attach(5))."""
NONUNAME: Final = 0xFFFFFFFF
"""As ``n_uname``: the user is named by ``uname`` only (9P2000.u)."""

MAXWELEM: Final = 16
"""Most names in one Twalk (walk(5))."""
HDRSZ: Final = 7
"""size[4] type[1] tag[2]: the least that a frame can be."""
IOHDRSZ: Final = 24
"""What v9fs and QEMU keep back from msize for the header of Tread, Twrite and their replies (``P9_IOHDRSZ``).
"""

RREAD_HDRSZ: Final = HDRSZ + 4
"""size[4] Rread tag[2] count[4]: what truly stands before the data of Rread and Rreaddir."""
TWRITE_HDRSZ: Final = HDRSZ + 4 + 8 + 4
"""size[4] Twrite tag[2] fid[4] offset[8] count[4]: what truly stands before the data of Twrite."""

DEFAULT_PORT: Final = 564
"""TCP port registered for 9P; Linux ``P9_PORT``."""

# --- qid.type -------------------------------------------------------------------------------------

QTDIR: Final = 0x80
QTAPPEND: Final = 0x40
QTEXCL: Final = 0x20
QTMOUNT: Final = 0x10
QTAUTH: Final = 0x08
QTTMP: Final = 0x04
QTSYMLINK: Final = 0x02
QTLINK: Final = 0x01
QTFILE: Final = 0x00

QID_TYPES: Final = _named("QT", "QTFILE")

# --- file types in mode, and directory entry types ------------------------------------------------

S_IFMT: Final = 0o170000
S_IFSOCK: Final = 0o140000
S_IFLNK: Final = 0o120000
S_IFREG: Final = 0o100000
S_IFBLK: Final = 0o060000
S_IFDIR: Final = 0o040000
S_IFCHR: Final = 0o020000
S_IFIFO: Final = 0o010000

DT_UNKNOWN: Final = 0
DT_FIFO: Final = 1
DT_CHR: Final = 2
DT_DIR: Final = 4
DT_BLK: Final = 6
DT_REG: Final = 8
DT_LNK: Final = 10
DT_SOCK: Final = 12

DIRENT_TYPES: Final = _named("DT_")

# --- Tlopen.flags, Tlcreate.flags: P9_DOTL_* ------------------------------------------------------

O_RDONLY: Final = 0o0
O_WRONLY: Final = 0o1
O_RDWR: Final = 0o2
O_ACCMODE: Final = 0o3
"""Mask of the three above; the value 3 itself is ``P9_DOTL_NOACCESS``."""
O_CREAT: Final = 0o100
O_EXCL: Final = 0o200
O_NOCTTY: Final = 0o400
O_TRUNC: Final = 0o1000
O_APPEND: Final = 0o2000
O_NONBLOCK: Final = 0o4000
O_DSYNC: Final = 0o10000
O_FASYNC: Final = 0o20000
O_DIRECT: Final = 0o40000
O_LARGEFILE: Final = 0o100000
O_DIRECTORY: Final = 0o200000
O_NOFOLLOW: Final = 0o400000
O_NOATIME: Final = 0o1000000
O_CLOEXEC: Final = 0o2000000
O_SYNC: Final = 0o4000000
"""``P9_DOTL_SYNC``: only the upper bit; Linux's own O_SYNC is this one together with O_DSYNC."""

OPEN_FLAGS: Final = _named("O_", "O_RDONLY", "O_ACCMODE")

AT_REMOVEDIR: Final = 0x200
"""Tunlinkat.flags: ``P9_DOTL_AT_REMOVEDIR``, the name must be a directory and is removed as rmdir(2) does."""

# --- Tgetattr.request_mask, Rgetattr.valid --------------------------------------------------------

GETATTR_MODE: Final = 0x00000001
GETATTR_NLINK: Final = 0x00000002
GETATTR_UID: Final = 0x00000004
GETATTR_GID: Final = 0x00000008
GETATTR_RDEV: Final = 0x00000010
GETATTR_ATIME: Final = 0x00000020
GETATTR_MTIME: Final = 0x00000040
GETATTR_CTIME: Final = 0x00000080
GETATTR_INO: Final = 0x00000100
GETATTR_SIZE: Final = 0x00000200
GETATTR_BLOCKS: Final = 0x00000400
GETATTR_BTIME: Final = 0x00000800
GETATTR_GEN: Final = 0x00001000
GETATTR_DATA_VERSION: Final = 0x00002000
GETATTR_BASIC: Final = 0x000007FF
GETATTR_ALL: Final = 0x00003FFF

GETATTR_MASK: Final = _named("GETATTR_", "GETATTR_BASIC", "GETATTR_ALL")

# --- Tsetattr.valid -------------------------------------------------------------------------------

SETATTR_MODE: Final = 0x00000001
SETATTR_UID: Final = 0x00000002
SETATTR_GID: Final = 0x00000004
SETATTR_SIZE: Final = 0x00000008
SETATTR_ATIME: Final = 0x00000010
SETATTR_MTIME: Final = 0x00000020
SETATTR_CTIME: Final = 0x00000040
SETATTR_ATIME_SET: Final = 0x00000080
SETATTR_MTIME_SET: Final = 0x00000100

SETATTR_MASK: Final = _named("SETATTR_")

# --- Tlock, Rlock, Tgetlock, Rgetlock -------------------------------------------------------------

LOCK_TYPE_RDLCK: Final = 0
LOCK_TYPE_WRLCK: Final = 1
LOCK_TYPE_UNLCK: Final = 2
LOCK_TYPES: Final = _named("LOCK_TYPE_")

LOCK_FLAGS_BLOCK: Final = 1
"""The caller will wait (F_SETLKW); the server may still answer LOCK_BLOCKED, and Linux then asks again."""
LOCK_FLAGS_RECLAIM: Final = 2
LOCK_FLAGS: Final = _named("LOCK_FLAGS_")

LOCK_SUCCESS: Final = 0
LOCK_BLOCKED: Final = 1
LOCK_ERROR: Final = 2
LOCK_GRACE: Final = 3
LOCK_STATUS: Final[dict[str, int]] = {
    "SUCCESS": LOCK_SUCCESS,
    "BLOCKED": LOCK_BLOCKED,
    "ERROR": LOCK_ERROR,
    "GRACE": LOCK_GRACE,
}

# --- Txattrcreate.flags ---------------------------------------------------------------------------

XATTR_CREATE: Final = 1
XATTR_REPLACE: Final = 2
XATTR_FLAGS: Final[dict[str, int]] = {"CREATE": XATTR_CREATE, "REPLACE": XATTR_REPLACE}
XATTR_NAME_MAX: Final = 255
XATTR_SIZE_MAX: Final = 65536
"""Largest value Linux accepts (``include/uapi/linux/limits.h``)."""

# --- statfs ---------------------------------------------------------------------------------------

V9FS_MAGIC: Final = 0x01021997
"""f_type that Linux gives a 9P mount; diod and lib9p put it into Rstatfs.type themselves."""

# --- limits of names ------------------------------------------------------------------------------

NAME_MAX: Final = 255
"""Longest name of one directory entry on Linux, in bytes."""

# --- error numbers (Rlerror.ecode): asm-generic, the same on the wire whatever the two machines are

EPERM: Final = 1
ENOENT: Final = 2
ESRCH: Final = 3
EINTR: Final = 4
EIO: Final = 5
ENXIO: Final = 6
E2BIG: Final = 7
ENOEXEC: Final = 8
EBADF: Final = 9
ECHILD: Final = 10
EAGAIN: Final = 11
ENOMEM: Final = 12
EACCES: Final = 13
EFAULT: Final = 14
ENOTBLK: Final = 15
EBUSY: Final = 16
EEXIST: Final = 17
EXDEV: Final = 18
ENODEV: Final = 19
ENOTDIR: Final = 20
EISDIR: Final = 21
EINVAL: Final = 22
ENFILE: Final = 23
EMFILE: Final = 24
ENOTTY: Final = 25
ETXTBSY: Final = 26
EFBIG: Final = 27
ENOSPC: Final = 28
ESPIPE: Final = 29
EROFS: Final = 30
EMLINK: Final = 31
EPIPE: Final = 32
EDOM: Final = 33
ERANGE: Final = 34
EDEADLK: Final = 35
ENAMETOOLONG: Final = 36
ENOLCK: Final = 37
ENOSYS: Final = 38
ENOTEMPTY: Final = 39
ELOOP: Final = 40
ENOMSG: Final = 42
EIDRM: Final = 43
ECHRNG: Final = 44
EL2NSYNC: Final = 45
EL3HLT: Final = 46
EL3RST: Final = 47
ELNRNG: Final = 48
EUNATCH: Final = 49
ENOCSI: Final = 50
EL2HLT: Final = 51
EBADE: Final = 52
EBADR: Final = 53
EXFULL: Final = 54
ENOANO: Final = 55
EBADRQC: Final = 56
EBADSLT: Final = 57
EBFONT: Final = 59
ENOSTR: Final = 60
ENODATA: Final = 61
ETIME: Final = 62
ENOSR: Final = 63
ENONET: Final = 64
ENOPKG: Final = 65
EREMOTE: Final = 66
ENOLINK: Final = 67
EADV: Final = 68
ESRMNT: Final = 69
ECOMM: Final = 70
EPROTO: Final = 71
EMULTIHOP: Final = 72
EDOTDOT: Final = 73
EBADMSG: Final = 74
EOVERFLOW: Final = 75
ENOTUNIQ: Final = 76
EBADFD: Final = 77
EREMCHG: Final = 78
ELIBACC: Final = 79
ELIBBAD: Final = 80
ELIBSCN: Final = 81
ELIBMAX: Final = 82
ELIBEXEC: Final = 83
EILSEQ: Final = 84
ERESTART: Final = 85
ESTRPIPE: Final = 86
EUSERS: Final = 87
ENOTSOCK: Final = 88
EDESTADDRREQ: Final = 89
EMSGSIZE: Final = 90
EPROTOTYPE: Final = 91
ENOPROTOOPT: Final = 92
EPROTONOSUPPORT: Final = 93
ESOCKTNOSUPPORT: Final = 94
EOPNOTSUPP: Final = 95
EPFNOSUPPORT: Final = 96
EAFNOSUPPORT: Final = 97
EADDRINUSE: Final = 98
EADDRNOTAVAIL: Final = 99
ENETDOWN: Final = 100
ENETUNREACH: Final = 101
ENETRESET: Final = 102
ECONNABORTED: Final = 103
ECONNRESET: Final = 104
ENOBUFS: Final = 105
EISCONN: Final = 106
ENOTCONN: Final = 107
ESHUTDOWN: Final = 108
ETOOMANYREFS: Final = 109
ETIMEDOUT: Final = 110
ECONNREFUSED: Final = 111
EHOSTDOWN: Final = 112
EHOSTUNREACH: Final = 113
EALREADY: Final = 114
EINPROGRESS: Final = 115
ESTALE: Final = 116
EUCLEAN: Final = 117
ENOTNAM: Final = 118
ENAVAIL: Final = 119
EISNAM: Final = 120
EREMOTEIO: Final = 121
EDQUOT: Final = 122
ENOMEDIUM: Final = 123
EMEDIUMTYPE: Final = 124
ECANCELED: Final = 125
ENOKEY: Final = 126
EKEYEXPIRED: Final = 127
EKEYREVOKED: Final = 128
EKEYREJECTED: Final = 129
EOWNERDEAD: Final = 130
ENOTRECOVERABLE: Final = 131
ERFKILL: Final = 132
ENOTSUPP: Final = 524
"""Kernel-internal; some servers have put it on the wire.  Not EOPNOTSUPP, which v9fs tests for."""

ERRNO_NAMES: Final = {number: f"E{name}" for name, number in _named("E").items()}
"""Name of each number above."""
