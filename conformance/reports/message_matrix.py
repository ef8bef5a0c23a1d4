"""The matrix of T-messages by cases, and the reasons why a Linux guest's system calls cannot cause some of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from conformance.case import Case
from protocol.messages import BY_NAME

CALL_LAYERS = ("vfs", "property")
"""Layers whose cases make system calls in a guest; their covers= is checked against what crossed."""

NEVER_SENT = {
    "Tlerror": "is not a request: the number beside Rlerror's, which is never sent (net/9p/client.c has no caller)",
    "Tauth": "v9fs never authenticates: p9_client_attach() is given no afid and sends NOFID"
    " (fs/9p/v9fs.c v9fs_session_init, fs/9p/fid.c v9fs_fid_lookup_with_uid; net/9p/client.c has no"
    " P9_TAUTH)",
    "Trename": "v9fs sends Trenameat, and Trename only to a server that answers that with EOPNOTSUPP"
    " (fs/9p/vfs_inode.c v9fs_vfs_rename)",
}
"""T-message -> why no case that makes system calls can show it on a server that has all of 9P2000.L. The wire
layer covers them. Tremove, in 9P2000.L a fallback of Tunlinkat in the same way (v9fs_remove), crosses on a mount as
9P2000.u; Tflush when a process is killed during a call; Tversion and Tattach on a second mount."""


def matrix(cases: Iterable[Case]) -> dict[str, list[str]]:
    """T-message name -> ids of the cases that cover it, for every message of 9P2000.L."""
    table: dict[str, list[str]] = {name: [] for name in BY_NAME if name.startswith("T")}
    for case in cases:
        for name in case.covers:
            table[name].append(case.id)
    return table


def never_sent(name: str) -> str:
    """Why no case covers the message; a gap is reported as one."""
    return NEVER_SENT.get(name, "NOT COVERED, and no reason is written")


def lines(cases: Iterable[Case]) -> Iterator[str]:
    """The matrix as text: for each message the cases that make system calls, or why there are none; then others."""
    given = list(cases)
    calls, others = (matrix(c for c in given if (c.layer in CALL_LAYERS) is wanted) for wanted in (True, False))
    for name, ids in calls.items():
        yield f"{name:<13} {', '.join(ids) if ids else '- ' + never_sent(name)}"
        if others[name]:
            yield f"{'':<13} below the file system: {', '.join(others[name])}"
