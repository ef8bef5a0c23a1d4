"""The declaration of a workload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

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
    check: Callable[[dict[str, Any]], None] | None = None
    """Called with all of its options before anything starts. Raises UsageError for what cannot be."""
    quiet_seconds: float = 600.0
    """Without a sign of life for so long it counts as hung, and the guest is restarted."""
