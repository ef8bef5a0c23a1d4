"""Kind `uml`: a User-Mode Linux guest, whose 9P devices are vhost-user back ends of this host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from conformance.sut.kind import Asked, Capability, Kind, Transports, Use
from conformance.sut.parts.backend_table import check_program, check_root
from conformance.sut.parts.guest_tables import GuestOptions
from conformance.sut.registry import register
from conformance.sut.servers.front_ends import VHOST_USER, reference_device
from conformance.sut.uml.tables import UmlTarget

if TYPE_CHECKING:
    from conformance.raw.server import Server
    from conformance.vfs.deployment import Deployment, Progress


class Uml(Kind[UmlTarget, GuestOptions]):
    """See the module."""

    name = "uml"
    title = "a User-Mode Linux guest, whose devices are vhost-user back ends of this host"
    model, options = UmlTarget, GuestOptions
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"guest", "soak", "several-shares", "pause", "power-cut"})

    def transports(self, target: UmlTarget) -> Transports:
        """See Kind: only the project's own back end is started without a guest."""
        return {} if target.server.command else VHOST_USER

    def unused(self, target: UmlTarget, use: Use) -> Iterator[tuple[str, str]]:
        if not use.mounted:
            yield "export_fs", use.mounts_nothing
            yield "image", f"the layers {' and '.join(use.below)} boot no guest over {use.link}"

    def check_target(self, target: UmlTarget) -> None:
        if target.server.command:
            check_program("server.command", target.server.command[0])

    def check(self, asked: Asked[UmlTarget, GuestOptions]) -> None:
        check_root(asked.target.name)

    def deployment(self, asked: Asked[UmlTarget, GuestOptions], run_dir: Path, progress: Progress) -> Deployment:
        from conformance.sut.uml.deployment import UmlDeployment  # noqa: PLC0415 - see conformance.sut.kind

        return UmlDeployment(asked.target, run_dir, progress, asked.options, asked.load)

    def server(
        self, asked: Asked[UmlTarget, GuestOptions], transport: str, directory: Path, progress: Progress
    ) -> Server:
        return reference_device(transport, asked.target.server.arguments, directory)


register(Uml())
