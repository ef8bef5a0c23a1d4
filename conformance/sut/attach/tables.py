"""The table and the options of kind `attach`: the same words in a TOML and on the command line."""

from __future__ import annotations

from typing import Annotated, Literal

from conformance.case import MOUNTED
from conformance.sut.attach.attachment import Allowance, Attachment, attachment
from conformance.sut.layers import BELOW
from conformance.sut.options import RUNNING, Flag, RunOptions
from conformance.sut.spec import Layer, Target
from conformance.tables import Strict

_ELSEWHERE = "is not a share that runs already"


class AttachTable(Strict):
    """[attach]: what the command line leaves out."""

    guest: str = ""
    outside: str = ""
    tag: str = ""
    mounted: str = ""
    allow: tuple[Allowance, ...] = ()
    control_dir: str = ""
    ssh_config: str = ""
    implementation: str = ""
    """What serves the share, e.g. "bhyve of illumos r151046": appears in every report."""
    process: str = ""
    """As --process has it."""


class AttachTarget(Target):
    """An existing guest and share."""

    kind: Literal["attach"]
    layers: tuple[Layer, ...] = MOUNTED
    left_out: dict[Layer, str] = dict.fromkeys(BELOW, "it takes the device from the guest's kernel: --allow guest-pci")
    attach: AttachTable = AttachTable()


class AttachOptions(RunOptions):
    """Which guest, which share, and what the suite may do there."""

    guest: Annotated[
        str,
        Flag(
            "--guest",
            "The guest, as ssh takes it: [USER@]HOST[:PORT], or an alias of the SSH configuration.",
            _ELSEWHERE,
            metavar="HOST",
            group=RUNNING,
            chooses=True,
            soak=True,
        ),
    ] = ""
    tag: Annotated[
        str,
        Flag(
            "--tag",
            "The mount tag of the share; the suite mounts it.",
            _ELSEWHERE,
            "TAG",
            RUNNING,
            chooses=True,
            soak=True,
        ),
    ] = ""
    mounted: Annotated[
        str,
        Flag(
            "--mounted",
            "Where the guest has the share mounted already, instead of --tag. It stays mounted as it is.",
            _ELSEWHERE,
            "DIR",
            RUNNING,
            chooses=True,
            soak=True,
        ),
    ] = ""
    outside: Annotated[
        str,
        Flag(
            "--outside",
            "The exported directory: PATH of this host, or [USER@]HOST:PATH of another.",
            _ELSEWHERE,
            "PATH",
            RUNNING,
            chooses=True,
            soak=True,
        ),
    ] = ""
    allow: Annotated[
        tuple[str, ...],
        Flag(
            "--allow",
            "What else the suite may do to a machine that is not its own: remount, guest-pci.",
            _ELSEWHERE,
            "WORDS",
            RUNNING,
        ),
    ] = ()
    control_dir: Annotated[
        str,
        Flag(
            "--control-dir",
            "A directory on a native file system of the guest. Default: /var/tmp.",
            _ELSEWHERE,
            "DIR",
            RUNNING,
            soak=True,
        ),
    ] = ""
    process: Annotated[
        str,
        Flag(
            "--process",
            "The process that serves the share, on the host of --outside, for a soak to watch: pidfile:PATH, "
            "name:NAME, or command:COMMAND, which prints its id.",
            "names that process itself",
            "WAY:VALUE",
            RUNNING,
            soak=True,
        ),
    ] = ""
    ssh_config: Annotated[
        str,
        Flag(
            "--ssh-config",
            "An SSH configuration instead of ~/.ssh/config, as ssh -F.",
            _ELSEWHERE,
            "FILE",
            RUNNING,
            soak=True,
        ),
    ] = ""


def attached(target: AttachTarget, options: AttachOptions) -> Attachment:
    """The TOML and the command line combined; the command line wins. Raises UsageError."""
    table = target.attach
    tag, mounted = (options.tag, options.mounted) if options.tag or options.mounted else (table.tag, table.mounted)
    return attachment(
        guest=options.guest or table.guest,
        outside=options.outside or table.outside,
        tag=tag,
        mounted=mounted,
        allow=(*table.allow, *options.allow),
        control=options.control_dir or table.control_dir,
        ssh_config=options.ssh_config or table.ssh_config,
        implementation=table.implementation,
        process=options.process or table.process,
    )
