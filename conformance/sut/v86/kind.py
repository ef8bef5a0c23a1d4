"""Kind `v86`: a 32-bit guest under the emulator v86, with its own server or one of this host behind its device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from conformance.sut.kind import Asked, Capability, Kind
from conformance.sut.options import RunOptions
from conformance.sut.parts.backend_table import check_program, check_root
from conformance.sut.registry import register
from conformance.sut.v86.tables import V86Target
from guests.machines.v86 import program as v86_program

if TYPE_CHECKING:
    from conformance.vfs.deployment import Deployment, Progress


class V86(Kind[V86Target, RunOptions]):
    """See the module. It has too little memory for workloads, and is too slow for them."""

    name = "v86"
    title = "a 32-bit guest under the emulator v86: its own server, or one of this host behind its device"
    model, options = V86Target, RunOptions
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"guest"})

    def check_target(self, target: V86Target) -> None:
        if target.server is not None and target.server.command:
            check_program("server.command", target.server.command[0])

    def check(self, asked: Asked[V86Target, RunOptions]) -> None:
        if asked.target.server is not None:
            check_root(asked.target.name)
        v86_program.require_host()

    def deployment(self, asked: Asked[V86Target, RunOptions], run_dir: Path, progress: Progress) -> Deployment:
        from conformance.sut.v86.deployment import V86Deployment  # noqa: PLC0415 - see conformance.sut.kind

        return V86Deployment(asked.target, run_dir, progress)


register(V86())
