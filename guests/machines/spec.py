"""What a machine is, as frozen data: nothing here touches the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

SecurityModel = Literal["passthrough", "none", "mapped-xattr", "mapped-file"]
Multidevs = Literal["remap", "forbid", "warn"]
Accelerator = Literal["auto", "kvm", "tcg"]
Access = Literal["ssh", "launcher"]
"""How a guest with a network is reached; ``docs/decisions/0002-access.md``."""

DEFAULT_TAGS = ("share0", "share1", "share2", "share3")
"""Mount tags of the default set: four shares, the most that a property case uses at once."""


@dataclass(frozen=True, slots=True)
class Share:
    """One virtio-9p device. Everything but ``tag`` is the host's side and may change from run to run."""

    tag: str
    path: Path
    security_model: SecurityModel = "passthrough"
    readonly: bool = False
    multidevs: Multidevs = "remap"
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """More ``-fsdev local`` options, such as ``fmode``, ``dmode``, ``throttling.bps-total``."""


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """One virtual machine.

    ``qemu_args`` are appended to QEMU's arguments and are part of the snapshot's key: they may change what the guest
    sees. ``host_args`` are appended, too; the caller guarantees that the guest cannot see them (``-trace``, ``-D``), so
    they do not need a new snapshot.
    """

    image: str
    run_dir: Path
    """Logs go here. It must exist or be creatable; it is not removed."""
    shares: tuple[Share, ...] = ()
    qemu: str = "qemu-system-x86_64"
    qemu_args: tuple[str, ...] = ()
    host_args: tuple[str, ...] = ()
    memory_mb: int = 512
    accelerator: Accelerator = "auto"
    machine: str = "pc"
    cpus: int = 1
    ssh_port: int | None = None
    """TCP port on 127.0.0.1 that leads to the guest's sshd; None takes a free one."""
    control_mb: int = 2048
    """Size of the guest's native file system at /control, in MiB."""
    extra_packages: tuple[str, ...] = ()
    """Packages in the image beyond the recipe's (each set is an image of its own)."""
    launcher: tuple[str, ...] = ()
    """Words before QEMU's own command that end in its execution, such as ``nsenter --mount=... --``."""
    reaches_host: bool = False
    """Give the guest access to the network: 10.0.2.2 is this host's 127.0.0.1, and it reaches what the host reaches."""
    keep: bool = False
    """Let the machine outlive this process (``assay9 guest boot``)."""
    access: Access = "ssh"
    """How the agent in the guest is reached: SSH as in any guest, or the launcher of the suite's own images."""
    agent: Path | None = None
    """The agent's source; None means our own."""
