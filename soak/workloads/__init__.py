"""The workloads of a soak; each declares what runs inside and how its iterations are judged.

The programs themselves are in `soak.inside`, because they run in the guest; this package has what the runner must know.
"""

from __future__ import annotations

from conformance.errors import UsageError
from guests.words import unknown
from soak.workloads.kernel_build import KERNEL_BUILD
from soak.workloads.kind import Workload
from soak.workloads.programs import PROGRAMS

WORKLOADS = {
    w.name: w
    for w in (
        Workload(
            "tree",
            "several processes create, rename, link, unlink and list in the same directories",
            "soak.inside.tree",
            {"workers": 3, "steps": 300, "repeat": 1},
        ),
        KERNEL_BUILD,
        Workload(
            "integrity",
            "random reads, writes, maps, cuts and copies of two files against a model",
            "soak.inside.integrity",
            {"sequences": 10, "ops": 400, "size": 1 << 18, "shrink_seconds": 120},
        ),
        *PROGRAMS,
    )
}
DEFAULT = "kernel-build"
"""What runs when no workload is named."""


def find(name: str) -> Workload:
    """The workload of that name. Raises UsageError that names the nearest."""
    if name in WORKLOADS:
        return WORKLOADS[name]
    raise UsageError(unknown("workload", name, WORKLOADS))
