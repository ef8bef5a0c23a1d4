"""The base of all kinds of targets: each is one class in a package of its own, which registers itself.

A kind defines what its TOML may hold (`model`), which options a run on it has (`options`), what it can do
(`capabilities`, `transports`), what it needs before anything starts (`check`), and how it is brought up (`deployment`
for a mounted share, `server` for raw frames). See docs/adding-a-target.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, TypeVar

from conformance.errors import UsageError
from conformance.profiles.model import Owner
from conformance.sut.options import Load, RunOptions
from conformance.sut.spec import Target

if TYPE_CHECKING:  # 400 ms, which --help and `assay9 targets` need not wait for
    from conformance.raw.server import Server
    from conformance.vfs.deployment import Deployment, Progress
    from conformance.vfs.mount_options import MountOptions

T = TypeVar("T", bound=Target)
O = TypeVar("O", bound=RunOptions)  # noqa: E741 - of `Kind`

Capability = Literal["guest", "soak", "several-shares", "own-file-system", "pause", "power-cut"]
CAPABILITIES: dict[Capability, str] = {
    "guest": "a guest of its own",
    "soak": "a guest that is fast enough, and has room, for workloads",
    "several-shares": "more than one share",
    "own-file-system": "an export with a file system of its own",
    "pause": "a server that the suite may stop",
    "power-cut": "a guest that can be killed and started again",
}
"""Capability -> its text in messages."""

Carrier = Literal["bytes", "virtqueues"]
Transports = Mapping[str, Carrier]
"""Name of a transport -> how it carries frames: in a stream of bytes, or in virtqueues, which the layer ring drives."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a run uses of a target; this decides which options apply."""

    mounted: tuple[str, ...] = ("vfs",)
    """The layers that need a mounted share."""
    below: tuple[str, ...] = ()
    """The layers that raw frames or rings drive."""
    link: str | None = None
    """The transport of the layers below; the default one where there is none of them, None where none can be."""

    @property
    def mounts_nothing(self) -> str:
        """Why an option for a mounted share does not apply."""
        return f"the layers {' and '.join(self.below)} mount nothing"


@dataclass(frozen=True, slots=True)
class Asked(Generic[T, O]):
    """What a run asks of a target."""

    target: T
    options: O
    use: Use = Use()
    load: Load | None = None
    """The needs of a soak run; None for a run of cases."""
    workers: int = 1
    """How many workers of the run have it at the same time."""


class Kind(ABC, Generic[T, O]):
    """One kind of target."""

    name: ClassVar[str]
    """As `kind` in a TOML."""
    title: ClassVar[str]
    """What it is, in one line, for `docs/adding-a-target.md`."""
    model: type[T]
    """What a TOML of this kind may say."""
    options: type[O]
    """What a run on it may ask for."""
    mounts: ClassVar[bool] = True
    """Whether there is a share to mount: the layers vfs and property."""
    capabilities: ClassVar[frozenset[Capability]] = frozenset()
    owner: ClassVar[Owner] = "device"
    """Whose fault a known failure is that the target's own [profile] declares."""
    one_guest: ClassVar[bool] = False
    """Its workers have one guest together: a run has one worker, unless it asks for more."""
    every_case: ClassVar[bool] = False
    """It judges the suite: cases that no server can fail run, too."""

    def transports(self, target: T) -> Transports:
        """The transports for raw frames by name, the default first."""
        return {}

    def unused(self, target: T, use: Use) -> Iterator[tuple[str, str]]:
        """Options of this kind (their fields) that do not apply to such a use, each with the reason."""
        yield from ()

    def leaves_out(self, target: T, options: Mapping[str, object]) -> dict[str, str]:
        """Layers that a run with these options leaves out unless it names them, with the reasons."""
        return {}

    def check_target(self, target: T) -> None:
        """Refuse errors of a TOML that need more than the file to detect. Raises UsageError."""

    def check(self, asked: Asked[T, O]) -> None:
        """Refuse a run for which something is missing. Raises UsageError or InfrastructureError, one line."""

    def one_at_a_time(self, asked: Asked[T, O]) -> str:
        """Why two workers cannot use it at the same time; empty if they can."""
        return ""

    def only_mount(self, asked: Asked[T, O]) -> MountOptions | None:
        """The only mount of the share, if a run cannot choose; None if it can."""
        return None

    @abstractmethod
    def deployment(self, asked: Asked[T, O], run_dir: Path, progress: Progress) -> Deployment:
        """The deployment of a share, not yet started. Raises UsageError if there is no share to mount."""

    def server(self, asked: Asked[T, O], transport: str, directory: Path, progress: Progress) -> Server:
        """The server for raw frames on that transport, not yet started; its files go into `directory`."""
        raise UsageError(f"target {asked.target.name} is of kind {self.name}: raw frames do not reach it")
