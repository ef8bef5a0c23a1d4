"""Which T-message is covered by which case, and why some cannot be by a system call of a Linux guest."""

from __future__ import annotations

from collections.abc import Iterable

from conformance.case import Case
from protocol.messages import BY_NAME

NEVER_SENT = {
    "Tauth": "v9fs never authenticates (net/9p/client.c sends afid = NOFID in Tattach)",
    "Tversion": "sent once by mount(8), before any case runs; each mount of a run is its proof",
    "Tattach": "sent by mount(8) before any case runs; access=user cases send more",
    "Trename": "v9fs sends Trenameat; Trename only after EOPNOTSUPP (fs/9p/vfs_inode.c v9fs_vfs_rename)",
    "Tremove": "v9fs sends Tunlinkat; Tremove only after EOPNOTSUPP (fs/9p/vfs_inode.c v9fs_remove)",
}
"""T-message -> why no vfs case can show it. The wire layer covers all of them."""


def matrix(cases: Iterable[Case]) -> dict[str, list[str]]:
    """T-message name -> ids of the cases that cover it, every message of 9P2000.L present."""
    table: dict[str, list[str]] = {name: [] for name in BY_NAME if name.startswith("T")}
    for case in cases:
        for name in case.covers:
            table[name].append(case.id)
    return table


def never_sent(name: str) -> str:
    """Why no case covers the message; a gap is said to be one."""
    return NEVER_SENT.get(name, "NOT COVERED, and no reason is written")
