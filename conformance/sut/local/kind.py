"""Kind `local`: no hypervisor and no server, a directory of this host seen twice. It tests the suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from conformance.sut.kind import Asked, Kind
from conformance.sut.local.tables import LocalOptions, LocalTarget
from conformance.sut.registry import register

if TYPE_CHECKING:
    from conformance.vfs.deployment import Deployment, Progress


class Local(Kind[LocalTarget, LocalOptions]):
    """See the module."""

    name = "local"
    title = "no hypervisor at all: a directory of this host seen twice, which judges the suite"
    model, options = LocalTarget, LocalOptions
    capabilities = frozenset({"soak", "pause"})
    every_case = True

    def deployment(self, asked: Asked[LocalTarget, LocalOptions], run_dir: Path, progress: Progress) -> Deployment:
        from conformance.sut.local.deployment import LocalDeployment  # noqa: PLC0415 - see conformance.sut.kind

        return LocalDeployment(asked.target, run_dir, progress, asked.options)


register(Local())
