"""Workloads that are real programs from Debian: they check themselves, we only watch."""

from __future__ import annotations

from soak.workloads.kind import Workload
from soak.workloads.packages import BUILD

PROGRAMS = (
    Workload(
        "git",
        "commits, a merge, clone, gc, fsck; the history has the same id as on the guest's own file system",
        "soak.inside.git_work",
        {"commits": 12},
        programs=("git",),
        packages=BUILD,
    ),
    Workload(
        "sqlite",
        "transfers in a database, with rollback journal and WAL, killed in mid-transaction",
        "soak.inside.sqlite_work",
        {"kills": 3, "seconds": 3},
    ),
    Workload(
        "fio",
        "writes with a checksum in every block, verified by fio",
        "soak.inside.fio_work",
        {"mb": 32},
        programs=("fio",),
        packages=BUILD,
    ),
    Workload(
        "tar",
        "a tree of every kind of entry, packed and unpacked on the share and back",
        "soak.inside.tar_work",
        {"entries": 250, "fifos": 1, "empty": 1, "nanoseconds": 1},
        programs=("tar",),
    ),
)
