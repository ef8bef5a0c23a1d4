"""What a workload's functions on the host may use: prepared files, looks from outside, values kept for the run.

The part inside the guest is a module of `soak.inside`; a workload that needs more than the guest has (a reference made
outside, a look at the export) declares functions for the host, which get a `Host`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.vfs.deployment import Deployment
from guests.agent.link import LinkLost
from guests.host import paths
from soak.inside.common import digest_of, manifest
from soak.outside import Outside
from soak.plan import Job


@dataclass(slots=True)
class Host:
    """One job of one session, seen from the host."""

    job: Job
    deployment: Deployment
    inside_root: str
    """The job's own directory on the share, as the guest names it; emptied before each iteration."""
    outside: Outside
    """The same directory on the host that exports it."""
    directory: str
    """The program's directory on the guest's own file system."""
    seed: int
    note: Callable[[str], None]
    """Records a line in the journal and shows it (a calibration, a decision)."""
    kept: dict[str, Any]
    """What `keep` was given before, in earlier sessions of this run too, here or inside."""
    _keep: Callable[[str, Any], None]

    def keep(self, key: str, value: Any) -> None:
        """Keep a value (JSON) for the whole run: after `resume` it is in `kept` and in the configuration's `kept`."""
        self.kept[key] = value
        self._keep(key, value)

    def cache(self) -> Path:
        """A directory that outlives runs, for expensive results (reference builds). Files in it need a key."""
        path = paths.cache_dir() / "soak" / self.job.workload
        path.mkdir(parents=True, exist_ok=True)
        return path

    def push(self, name: str, data: bytes) -> str:
        """Put a file into the program's directory on the guest's own file system; returns its path there.

        Only in `prepare`: the runner's thread owns the link to the guest.
        """
        path = f"{self.directory}/{name}"
        self.deployment.inside.calls.create(path, data)
        return path


Prepare = Callable[[Host], dict[str, Any]]
"""Called in the runner's thread before the program starts (each session, and after each restart of the guest).
What it returns is added to the program's configuration."""

Answer = Callable[[Host, dict[str, Any]], Any]
"""Answers `Context.ask` of the program, in a thread of its own: host files only, never `host.deployment.inside`.
An exception becomes the iteration's outcome `error`."""

Collect = Callable[[Host, dict[str, Any]], dict[str, bytes]]
"""Called after a failed iteration with its data: further artefacts by file name (what the host saw, a reference)."""


def look_outside(host: Host, question: dict[str, Any]) -> str:
    """The answer to `Context.look_outside`: nothing if outside sees the same, else what it sees."""
    try:
        lines = host.outside.below(question["path"]).ask(manifest)
    except (OSError, LinkLost) as e:
        return f"outside cannot read it: {e}"
    return "" if digest_of(lines) == question["manifest"] else "outside sees:\n" + "\n".join(lines[:200])
