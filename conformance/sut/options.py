"""The options of a run beyond a target's TOML, each declared once.

A kind's options are a model. A field with a `Flag` is an option of `assay9 run`, of pytest and, if the flag says so, of
`assay9 soak`. A field without one is for code that starts a deployment itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import Field

from conformance.tables import Strict, word
from guests.host.file_systems import KINDS

GUEST, SERVER, RUNNING = "A target with a guest", "A server or device of yours", "An existing share (attach)"
"""Headings of --help."""


@dataclass(frozen=True, slots=True)
class Flag:
    """How the command line spells an option, and why it may not apply."""

    name: str
    """With its dashes: --qemu."""
    help: str
    elsewhere: str
    """What is so of a target whose kind does not have the option: "runs no QEMU"."""
    metavar: str = ""
    group: str = GUEST
    chooses: bool = False
    """It chooses what is tested: runs with another value are not compared with each other."""
    soak: bool = False
    """`assay9 soak` has it, too."""


class RunOptions(Strict):
    """The options that every kind has; a kind adds its own. Fields that the user did not give have their default."""

    link: Annotated[
        str | None,
        Flag(
            "--link",
            "How the layers wire and ring reach the device: socket, qtest, qtest-legacy, guest-pci, vhost-user, "
            "vhost-user-inband, vhost-user-legacy.",
            "is not reached by raw frames",
            metavar="LINK",
            group=SERVER,
            chooses=True,
        ),
    ] = None
    requests: Annotated[
        Annotated[int, Field(ge=1, le=10_000_000)] | None,
        Flag(
            "--requests",
            "How often family repeat of layer wire repeats each kind of request. Default: 3,072, on rings 256.",
            "is not reached by raw frames",
            metavar="N",
            group=SERVER,
        ),
    ] = None


class ExportOptions(RunOptions):
    """Where the exported directories are made by the suite on this host."""

    export_fs: Annotated[
        Annotated[str, word("file system", KINDS)] | None,
        Flag(
            "--export-fs",
            "Put the exported directories on a new file system of this kind: ext4, ext4-small-inodes, ext4-casefold, "
            "xfs, btrfs, tmpfs, overlay, fuse2fs. Default: the one that /var/tmp is on.",
            "does not have its exported directory made by the suite",
            metavar="KIND",
            chooses=True,
        ),
    ] = None


class Load(Strict):
    """What a soak run or a benchmark needs of a target; None for a deployment that runs cases."""

    packages: tuple[str, ...] = ()
    """Debian packages that the workloads need in the guest."""
    memory_mb: int = 0
    """The least memory of the guest, in MiB."""
    export_mb: int = 0
    """Size in MiB of a file system of its own for the first export; 0: a plain directory."""
    reaches_host: bool = False
    """The guest must reach servers on 127.0.0.1 of this host."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One field of an options model that is on the command line."""

    field: str
    flag: Flag
    many: bool
    """It can be given several times."""
    switch: bool
    """It takes no value."""

    @property
    def key(self) -> str:
        """The name under which click and pytest keep it."""
        return self.flag.name.removeprefix("--").replace("-", "_")


def declared(model: type[RunOptions]) -> Iterator[Declared]:
    """The options of the command line that a model has, in the order of their declaration."""
    for name, field in model.model_fields.items():
        for flag in field.metadata:
            if isinstance(flag, Flag):
                shape: Any = field.annotation
                yield Declared(name, flag, many=tuple in (shape, *_origins(shape)), switch=shape is bool)


def _origins(annotation: Any) -> Iterator[Any]:
    yield getattr(annotation, "__origin__", None)
    for inner in get_args(annotation):
        yield from _origins(inner)
