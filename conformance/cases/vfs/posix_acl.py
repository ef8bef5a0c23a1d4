"""POSIX ACLs as the system.posix_acl_* attributes carry them: struct posix_acl_xattr_header and its entries."""

from __future__ import annotations

import struct
from dataclasses import dataclass

VERSION = 2
NO_ID = 0xFFFFFFFF
TAGS = {"user_obj": 0x01, "user": 0x02, "group_obj": 0x04, "group": 0x08, "mask": 0x10, "other": 0x20}
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: a tag of TAGS, permissions 0..7, and the id of a named user or group."""

    tag: str
    perm: int
    id: int = NO_ID


def encode(*entries: Entry, version: int = VERSION) -> bytes:
    """The attribute's bytes, entries in the order given (the kernel wants them by tag, then id)."""
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", TAGS[e.tag], e.perm, e.id) for e in entries)


def decode(raw: bytes) -> tuple[Entry, ...]:
    """The entries of an attribute."""
    names = {number: name for name, number in TAGS.items()}
    return tuple(Entry(names[t], p, i) for t, p, i in struct.iter_unpack("<HHI", raw[4:]))


def acl(user: int, group: int, other: int, *named: Entry, mask: int | None = None) -> bytes:
    """An ACL of the three basic entries, named ones and a mask (which named entries require)."""
    users = sorted((e for e in named if e.tag == "user"), key=lambda e: e.id)
    groups = sorted((e for e in named if e.tag == "group"), key=lambda e: e.id)
    masks = [] if mask is None else [Entry("mask", mask)]
    return encode(Entry("user_obj", user), *users, Entry("group_obj", group), *groups, *masks, Entry("other", other))
