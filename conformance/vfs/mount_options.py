"""Mount options as a case or a user requests them, and whether /proc/mounts shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import product

from conformance.case import CACHES
from conformance.errors import UsageError
from conformance.vfs.compare import Rule
from guests.words import shown, unknown

LARGEST_MSIZE = 512_000
"""What net/9p/trans_virtio.c grants at most: 128 pages less three, 4 KiB each."""


VERSIONS = ("9p2000.L", "9p2000.u")
COMMANDS = ("mount", "9mount")
ACCESS = ("client", "user", "any")
"""Modes of access; a uid is one, too."""
_HIGHEST_UID = (1 << 32) - 2
_HIGHEST_MSIZE = (1 << 31) - 1
"""fs/9p parses the option as an int; the transport then cuts it to what it can."""


@dataclass(frozen=True, slots=True, order=True)
class MountOptions:
    """One way of mounting a share; `msize` in bytes, `access` is client, user, any or a uid."""

    cache: str = "none"
    msize: int = 131_072
    access: str = "client"
    version: str = "9p2000.L"
    posixacl: bool = False
    by: str = "mount"
    """The command that mounts it: mount(8) of the guest's system, or 9mount(1)."""

    def __str__(self) -> str:
        """The differences from the defaults, e.g. `cache=mmap,msize=8192`; always with the cache mode."""
        shown = [f"cache={self.cache}"]
        for f in fields(self)[1:]:
            value = getattr(self, f.name)
            if value != f.default:
                shown.append(f.name if value is True else f"{f.name}={value}")
        return ",".join(shown)

    @property
    def only_uid(self) -> int | None:
        """The single user who acts on the share, whoever makes the call; None if each user does.

        Source: Documentation/filesystems/9p.rst, access=<uid> and access=any ("performs all operations as one user").
        """
        return int(self.access) if self.access.isdigit() else 0 if self.access == "any" else None

    def options(self, transport: str = "trans=virtio") -> str:
        """The text after `mount -t 9p -o`."""
        parts = [transport, f"version={self.version}", f"msize={self.msize}", f"access={self.access}"]
        parts += [f"cache={self.cache}"] + (["posixacl"] if self.posixacl else [])
        return ",".join(parts)

    def contradicted_by(self, shown: str) -> list[str]:
        """The differences from the options column of /proc/mounts; empty when all is in force.

        Linux leaves out its defaults (fs/9p/v9fs.c v9fs_show_options, net/9p/client.c p9_show_client_options); before
        6.4 it prints the cache mode as a bare word, later as a number of bits.
        """
        seen = dict(part.partition("=")[::2] for part in shown.split(","))
        wrong = []
        cache = _cache_of(seen)
        if cache != self.cache:
            wrong.append(f"cache is {cache}, {self.cache} was requested")
        access = seen.get("access", "client" if self.version == "9p2000.L" else "user")
        if access != self.access:
            wrong.append(f"access is {access}, {self.access} was requested")
        if "msize" in seen and int(seen["msize"]) != self.msize:
            wrong.append(f"msize is {seen['msize']}, {self.msize} was requested")
        version = seen.get("version", "9p2000.L")
        if version != self.version:
            wrong.append(f"version is {version}, {self.version} was requested")
        if self.posixacl and "posixacl" not in seen:
            wrong.append("posixacl was requested and is not in force")
        return wrong


_CACHE_BITS = {
    "0": "none",
    "00000000": "none",
    "1": "readahead",
    "00000001": "readahead",
    "5": "mmap",
    "00000005": "mmap",
    "f": "loose",
    "0000000f": "loose",
    "8f": "fscache",
    "0000008f": "fscache",
}
"""Linux 6.4 and later: enum p9_cache_shortcuts in fs/9p/v9fs.h, printed with %x."""

DEFAULT = MountOptions()


def _cache_of(seen: Mapping[str, str]) -> str:
    """The cache mode in the options column of /proc/mounts."""
    cache = seen.get("cache") or next((c for c in CACHES if c in seen), "none")
    return _CACHE_BITS.get(cache.removeprefix("0x"), cache)


def in_force(shown: str) -> MountOptions:
    """The options column of /proc/mounts as MountOptions; options that it leaves out are as in DEFAULT."""
    seen = dict(part.partition("=")[::2] for part in shown.split(","))
    version = seen.get("version", DEFAULT.version)
    return MountOptions(
        cache=_cache_of(seen),
        msize=int(seen.get("msize", DEFAULT.msize)),
        access=seen.get("access", "client" if version == "9p2000.L" else "user"),
        version=version,
        posixacl="posixacl" in seen,
    )


def parse(text: str, base: MountOptions = DEFAULT) -> MountOptions:
    """Parse `cache=mmap,msize=8192,posixacl` as typed by the user; other options are as in `base`.

    A version without users by name (9p2000.u) brings access=user with it unless an access is named, as in Linux.
    Raises UsageError naming what is wrong.
    """
    names = {f.name for f in fields(MountOptions)}
    asked: dict[str, object] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if name not in names:
            raise UsageError(unknown("mount option", name, names))
        if name in asked:
            raise UsageError(f"mount option {name} is given twice in {shown(text)}")
        asked[name] = _value(name, value, equals)
    if asked.get("version") == "9p2000.u" and "access" not in asked and base.access == "client":
        asked["access"] = "user"
    return replace(base, **asked)  # type: ignore[arg-type]


def _value(name: str, value: str, equals: str) -> object:
    """One option's value. Raises UsageError."""
    if name == "posixacl":
        if equals:
            raise UsageError(f"mount option posixacl takes no value, not {shown(value)}")
        return True
    number = int(value) if value.isascii() and value.isdigit() else None
    if name == "msize":
        if number is None or not 4096 <= number <= _HIGHEST_MSIZE:
            raise UsageError(f"msize={shown(value)}: give a number of bytes, 4096 or more")
        return number
    if name == "access":
        if value not in ACCESS and (number is None or number > _HIGHEST_UID):
            raise UsageError(f"{unknown('access', value, ACCESS)} (or a uid)")
    elif name == "cache" and value not in CACHES:
        raise UsageError(unknown("cache mode", value, CACHES))
    elif name == "by" and value not in COMMANDS:
        raise UsageError(unknown("command that mounts", value, COMMANDS))
    elif name == "version" and value not in VERSIONS:
        raise UsageError(unknown("version", value, VERSIONS))
    return value


def for_all_cases(text: str) -> MountOptions:
    """`parse`, for a mount of all cases. Raises UsageError for one on which no case could run."""
    options = parse(text)
    if options.access.isdigit() and int(options.access) != 0:
        raise UsageError(
            f"access={options.access} serves one user only, and the suite's own process in the guest is "
            "root: use access=0 (MOUNT-006 tries other users)"
        )
    if options.version == "9p2000.u" and options.access == "client":
        raise UsageError(
            "version=9p2000.u has no access=client, Linux mounts with access=user: use version=9p2000.u,access=user"
        )
    if options.posixacl and options.access != "client":
        raise UsageError(
            f"posixacl needs access=client and version=9p2000.L, Linux drops it with "
            f"access={options.access}: leave one of them out"
        )
    return options


def matrix() -> list[MountOptions]:
    """`--mounts all`: every cache mode by message size, then each access, version and ACL by itself."""
    grid = [MountOptions(cache=c, msize=m) for c, m in product(CACHES, (4096, 8192, 131_072, LARGEST_MSIZE))]
    others = [MountOptions(access=a) for a in ("user", "any", "0")]
    others += [MountOptions(version="9p2000.u", access="user"), MountOptions(posixacl=True)]
    return grid + others


_U_SECONDS = "9P2000.u counts times in whole seconds of 32 bits"
_U_NONE = "9P2000.u has no field for it: the guest makes it up"
_U_RULES = {
    "atime_ns": Rule("informational", _U_SECONDS),
    "mtime_ns": Rule("informational", _U_SECONDS),
    "ctime_ns": Rule("informational", _U_NONE),
    "blocks": Rule("informational", _U_NONE),
    "nlink": Rule("informational", _U_NONE),
    **{
        f"f_{name}": Rule("informational", "9P2000.u has no Tstatfs")
        for name in ("blocks", "bfree", "bavail", "files", "ffree", "favail", "namemax", "fsid")
    },
}


def rules_of(options: MountOptions) -> dict[str, Rule]:
    """Comparison rules that follow from the protocol's version."""
    return _U_RULES if options.version == "9p2000.u" else {}
