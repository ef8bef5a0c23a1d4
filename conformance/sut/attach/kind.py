"""Kind `attach`: an existing guest and share, on machines that the suite does not own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from conformance.case import KEPT
from conformance.errors import UsageError
from conformance.sut.attach.tables import AttachOptions, AttachTarget, attached
from conformance.sut.kind import Asked, Capability, Kind, Transports
from conformance.sut.registry import register

if TYPE_CHECKING:
    from conformance.raw.server import Server
    from conformance.vfs.deployment import Deployment, Progress
    from conformance.vfs.mount_options import MountOptions


class Attach(Kind[AttachTarget, AttachOptions]):
    """See the module."""

    name = "attach"
    title = "a guest and a share that run already, reached over SSH; any hypervisor"
    model, options = AttachTarget, AttachOptions
    one_guest = True
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"soak"})

    def transports(self, target: AttachTarget) -> Transports:
        return {"guest-pci": "virtqueues"}

    def check(self, asked: Asked[AttachTarget, AttachOptions]) -> None:
        """See Kind: both machines are reachable, and the share is the directory, before a run begins."""
        given = attached(asked.target, asked.options)
        if asked.use.below and given.mounted:
            raise UsageError(f"--mounted: layer {asked.use.below[0]} needs the device, which the guest's kernel has")
        if asked.use.below and "guest-pci" not in given.allow:
            raise UsageError(
                f"layer {asked.use.below[0]} takes the share's device from the guest's kernel: add --allow guest-pci"
            )
        if asked.workers > 1 and (mount := self.only_mount(asked)) is not None and mount.cache in KEPT:
            raise UsageError(
                f"--jobs {asked.workers}: with cache={mount.cache} the guest's kernel itself sends later what a case "
                "has written: leave --jobs out, or mount the share with cache=none"
            )
        trial = self.deployment(replace(asked, workers=1), Path(), lambda _: None)
        trial.start()
        trial.stop()

    def only_mount(self, asked: Asked[AttachTarget, AttachOptions]) -> MountOptions | None:
        from conformance.sut.attach.deployment import present_mount  # noqa: PLC0415 - see conformance.sut.kind

        given = attached(asked.target, asked.options)
        return None if "remount" in given.allow else present_mount(given)

    def one_at_a_time(self, asked: Asked[AttachTarget, AttachOptions]) -> str:
        """See Kind: several workers need a mount that stays unchanged."""
        if asked.use.below:
            return f"layer {asked.use.below[0]} needs the share's device for itself"
        if "remount" in attached(asked.target, asked.options).allow:
            return "--allow remount needs the mount of the share for itself"
        return ""

    def deployment(self, asked: Asked[AttachTarget, AttachOptions], run_dir: Path, progress: Progress) -> Deployment:
        from conformance.sut.attach.deployment import AttachDeployment  # noqa: PLC0415 - see conformance.sut.kind

        given, cases = attached(asked.target, asked.options), asked.load is None
        return AttachDeployment(asked.target, given, run_dir, progress, cases=cases, workers=asked.workers)

    def server(
        self, asked: Asked[AttachTarget, AttachOptions], transport: str, directory: Path, progress: Progress
    ) -> Server:
        from conformance.sut.attach.deployment import AttachDeployment  # noqa: PLC0415 - see conformance.sut.kind
        from conformance.sut.attach.guest_pci import AttachedDevice  # noqa: PLC0415 - as above

        given = attached(asked.target, asked.options)
        return AttachedDevice(lambda: AttachDeployment(asked.target, given, directory, progress, cases=False))


register(Attach())
