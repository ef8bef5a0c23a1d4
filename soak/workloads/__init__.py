"""What a soak makes a share do; each workload says what runs inside and how its iterations are judged.

The programs themselves are in `soak.inside`, because they run in the guest; here is what the runner must know.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from conformance.errors import UsageError
from soak.host import Answer, Collect, Prepare


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload: `module` of `soak.inside` runs in the guest, with `options` in its configuration."""

    name: str
    title: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    """Defaults of what `--set NAME.KEY=VALUE` can change; a whole number becomes an int."""
    programs: tuple[str, ...] = ()
    """Programs that the guest must have."""
    packages: tuple[str, ...] = ()
    """Debian packages beyond the image's recipe that bring them; the image is made with them."""
    memory_mb: int = 0
    """Memory that the guest must have, in MiB; 0: what the target has."""
    prepare: Prepare | None = None
    answer: Answer | None = None
    collect: Collect | None = None
    quiet_seconds: float = 600.0
    """Without a sign of life for so long it counts as hung, and the guest is restarted."""


WORKLOADS = {
    w.name: w
    for w in (
        Workload("tree", "several processes create, rename, link, unlink and list in the same directories",
                 "soak.inside.tree", {"workers": 3, "steps": 300, "repeat": 1}),
        Workload("integrity", "random reads, writes, maps, cuts and copies of two files against a model",
                 "soak.inside.integrity", {"sequences": 10, "ops": 400, "size": 1 << 18, "shrink_seconds": 120}),
    )
}  # fmt: skip
DEFAULT = "tree"
"""What runs when no workload is named."""


def find(name: str) -> Workload:
    """The workload of that name. Raises UsageError that names the nearest."""
    if name in WORKLOADS:
        return WORKLOADS[name]
    near = difflib.get_close_matches(name, WORKLOADS, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(WORKLOADS))}"
    raise UsageError(f"unknown workload {name!r}: {hint}")
