"""What a User-Mode Linux machine is, as frozen data, and its command line as a pure function of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from guests.errors import InfrastructureError
from guests.machines.uml.console import VIRTIO_ID_CONSOLE

VIRTIO_ID_9P = 9
MAX_DEVICES = 12
"""More than any case uses; User-Mode Linux has 64 interrupts, and each device takes one."""


@dataclass(frozen=True, slots=True)
class Device:
    """A virtio device that a vhost-user back end serves at a socket. The guest gets the rest from it."""

    socket: Path
    virtio_id: int = VIRTIO_ID_9P


@dataclass(frozen=True, slots=True)
class UmlSpec:
    """One machine."""

    run_dir: Path
    """Logs go here. It must exist or be creatable; it is not removed."""
    devices: tuple[Device, ...] = ()
    image: str = "debian12"
    """The root file system; its own kernel is not used."""
    extra_packages: tuple[str, ...] = ()
    memory_mb: int = 384
    control_mb: int = 2048
    """Size of the guest's native file system at /control, in MiB; sparse."""
    launcher: tuple[str, ...] = ()
    """Words before the kernel's own command that end in its execution, such as ``nsenter --mount=... --``."""
    memory_dir: Path | None = None
    """Where the guest's memory is, as a sparse file without a name; None takes TMPDIR, else /dev/shm."""
    network: bool = True
    """Have a TAP for SSH where that can be: as root, with /dev/net/tun."""
    agent: Path | None = None
    """The agent's source; None means our own."""


@dataclass(frozen=True, slots=True)
class Host:
    """What one start of a machine uses on the host."""

    kernel: Path
    initramfs: Path
    root: Path
    control: Path
    console_socket: Path
    directory: Path
    """For what the kernel itself puts somewhere: its control socket."""
    tap: str = ""
    """Name of the TAP, in the machine's own network namespace; empty for none."""


def uml_argv(spec: UmlSpec, host: Host) -> list[str]:
    """The kernel's command line. Raises InfrastructureError for a path that it cannot contain."""
    devices = [(host.console_socket, VIRTIO_ID_CONSOLE), *((d.socket, d.virtio_id) for d in spec.devices)]
    files = (host.initramfs, host.root, host.control, host.directory, *(path for path, _ in devices))
    for path in files:
        # The kernel cuts its command line at spaces, a disk's name at commas and colons, a device's at colons.
        if set(str(path)) & set(' ,:"\\'):
            raise InfrastructureError(
                f"the command line of User-Mode Linux cannot contain {path}",
                "choose a path without spaces, commas, colons, quotes and backslashes",
            )
    argv = [
        str(host.kernel),
        f"mem={spec.memory_mb}M",
        f"initrd={host.initramfs}",
        "rdinit=/init",
        f"ubd0r={host.root}",
        f"ubd1={host.control}",
        f"uml_dir={host.directory}/",
        "umid=uml",
        # The console goes to standard output, which is the log; nothing is read.
        *("con=null", "con0=null,fd:1", "ssl=null", "console=tty0"),
        *("quiet", "panic=-1"),
    ]
    if host.tap:
        argv.append(f"vec0:transport=tap,ifname={host.tap},depth=64,gro=0")
    return argv + [f"virtio_uml.device={path}:{number}" for path, number in devices]
