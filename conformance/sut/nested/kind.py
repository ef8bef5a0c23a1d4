"""Kind `nested`: a virtual machine that commands start in one of the suite's own guests, where KVM works."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from conformance.sut.attach.attachment import attachment
from conformance.sut.hypervisor.kind import valued
from conformance.sut.kind import Asked, Capability, Kind, Transports
from conformance.sut.nested.tables import NestedTarget
from conformance.sut.options import RunOptions
from conformance.sut.registry import register

if TYPE_CHECKING:
    from conformance.raw.server import Server
    from conformance.sut.nested.deployment import NestedDeployment
    from conformance.vfs.deployment import Deployment, Progress


class Nested(Kind[NestedTarget, RunOptions]):
    """See the module."""

    name = "nested"
    title = (
        "a virtual machine that commands of its TOML start under KVM, in a guest of the suite's own that is its host"
    )
    model, options = NestedTarget, RunOptions
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"guest", "soak", "pause", "power-cut"})

    def transports(self, target: NestedTarget) -> Transports:
        return {"guest-pci": "virtqueues"}

    def one_at_a_time(self, asked: Asked[NestedTarget, RunOptions]) -> str:
        return f"target {asked.target.name} has one machine"

    def deployment(self, asked: Asked[NestedTarget, RunOptions], run_dir: Path, progress: Progress) -> Deployment:
        return _deployment(asked.target, run_dir, progress, cases=asked.load is None)

    def server(
        self, asked: Asked[NestedTarget, RunOptions], transport: str, directory: Path, progress: Progress
    ) -> Server:
        from conformance.sut.attach.guest_pci import AttachedDevice  # noqa: PLC0415 - see conformance.sut.kind

        return AttachedDevice(lambda: _deployment(asked.target, directory, progress, cases=False))


def _deployment(target: NestedTarget, run_dir: Path, progress: Progress, *, cases: bool) -> NestedDeployment:
    from conformance.sut.nested.deployment import NestedDeployment  # noqa: PLC0415 - see conformance.sut.kind

    share = target.share
    where = attachment(
        guest="inner",  # the port is known later
        outside=share.outside,
        tag=share.tag,
        allow=("remount",),
        control=share.control_dir,
        implementation=share.implementation,
    )
    return NestedDeployment(target, where, valued(target, where, target.values), run_dir, progress, cases=cases)


register(Nested())
