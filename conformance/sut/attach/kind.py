"""Kind `attach`: a guest and a share that run already, on machines that are not the suite's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from conformance.sut.attach.tables import AttachOptions, AttachTarget, attached
from conformance.sut.kind import Asked, Kind
from conformance.sut.registry import register

if TYPE_CHECKING:
    from conformance.vfs.deployment import Deployment, Progress
    from conformance.vfs.mount_options import MountOptions


class Attach(Kind[AttachTarget, AttachOptions]):
    """See the module."""

    name = "attach"
    title = "a guest and a share that run already, reached over SSH; any hypervisor"
    model, options = AttachTarget, AttachOptions

    def check(self, asked: Asked[AttachTarget, AttachOptions]) -> None:
        """See Kind: both machines are reached, and the share is shown to be the directory, before a run begins."""
        attached(asked.target, asked.options)
        trial = self.deployment(asked, Path(), lambda _: None)
        trial.start()
        trial.stop()

    def only_mount(self, asked: Asked[AttachTarget, AttachOptions]) -> MountOptions | None:
        from conformance.sut.attach.deployment import present_mount  # noqa: PLC0415 - see conformance.sut.kind

        given = attached(asked.target, asked.options)
        return None if "remount" in given.allow else present_mount(given)

    def one_at_a_time(self, target: AttachTarget, options: AttachOptions) -> str:
        return f"target {target.name} has one guest, with one mount of the share"

    def deployment(self, asked: Asked[AttachTarget, AttachOptions], run_dir: Path, progress: Progress) -> Deployment:
        from conformance.sut.attach.deployment import AttachDeployment  # noqa: PLC0415 - see conformance.sut.kind

        return AttachDeployment(asked.target, attached(asked.target, asked.options), run_dir, progress)


register(Attach())
