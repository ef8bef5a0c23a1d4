"""QEMU's command line as a pure function of the specification.

Two machines can exchange a snapshot when their *guest-visible* parts are equal; so every device has an explicit PCI
address, and paths, sockets and ports are in options that are not migrated.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from guests.access.launcher import GUEST_PORT
from guests.machines.spec import MachineSpec, Share

SNAPSHOT_NAME = "ready"

KERNEL_COMMAND_LINE = (
    "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check mitigations=off random.trust_cpu=on "
    "rdinit=/init transparent_hugepage=never"
)

FIRST_SHARE_SLOT = 0x08
"""PCI slot of the first share; slots below are the fixed devices, 0x1f is the last."""

MAX_SHARES = 0x20 - FIRST_SHARE_SLOT


@dataclass(frozen=True, slots=True)
class Host:
    """What one start of a machine uses on the host; nothing of it is visible to the guest."""

    kernel: Path
    initramfs: Path
    root: Path
    state: Path
    """qcow2 with the control file system and, once made, the snapshot."""
    console_socket: Path
    console_log: Path
    qmp_socket: Path
    ssh_port: int
    resident_port: int


def qemu_argv(
    spec: MachineSpec, accelerator: str, host: Host, restore: bool, kernel_arguments: tuple[str, ...] = ()
) -> list[str]:
    """Arguments to start ``spec``: booting the kernel, or from the snapshot when ``restore``.

    ``kernel_arguments`` are further arguments for a kernel that is booted, not for a restored one.
    """
    command_line = " ".join((KERNEL_COMMAND_LINE, *kernel_arguments))
    argv = [
        spec.qemu,
        *_guest_visible(spec, accelerator),
        *("-name", "assay9"),
        *("-display", "none", "-no-reboot"),
        *("-kernel", str(host.kernel), "-initrd", str(host.initramfs), "-append", command_line),
        # No process writes the image, and QEMUs that start at the same moment sometimes block each other by its lock.
        *("-drive", f"if=none,id=root,format=raw,readonly=on,file.locking=off,file={_escaped(host.root)}"),
        *("-drive", f"if=none,id=state,format=qcow2,cache=unsafe,discard=unmap,file={_escaped(host.state)}"),
        *(
            "-netdev",
            f"user,id=net,restrict={'off' if spec.reaches_host else 'on'},hostfwd=tcp:127.0.0.1:{host.ssh_port}-:22"
            f",hostfwd=tcp:127.0.0.1:{host.resident_port}-:{GUEST_PORT}",
        ),
        *(
            "-chardev",
            f"socket,id=console,path={_escaped(host.console_socket)},server=on,wait=off,"
            f"logfile={_escaped(host.console_log)},logappend=on",
        ),
        *("-chardev", f"socket,id=qmp,path={_escaped(host.qmp_socket)},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
    ]
    for number, share in enumerate(spec.shares):
        argv += ["-fsdev", fsdev(number, share)]
    argv += [*spec.qemu_args, *spec.host_args]
    if restore:
        argv += ["-loadvm", SNAPSHOT_NAME]
    return argv


def fsdev(number: int, share: Share) -> str:
    """The ``-fsdev`` value of a share: its host side."""
    parts = [
        "local",
        f"id=fs{number}",
        f"path={_escaped(share.path)}",
        f"security_model={share.security_model}",
        f"multidevs={share.multidevs}",
    ]
    if share.readonly:
        parts.append("readonly=on")
    parts += [f"{key}={_escaped(value)}" for key, value in sorted(share.options.items())]
    # In the manual multidevs is an option of the legacy -virtfs, but -fsdev accepts it, too.
    return ",".join(parts)


def snapshot_key(spec: MachineSpec, accelerator: str, image_digest: str, qemu_identity: str) -> str:
    """Sixteen hexadecimal digits: machines with equal keys can restore each other's snapshot.

    The key covers the image as built, the QEMU binary, every guest-visible argument, and the size of the control disk;
    not paths, security models, read-only and ports.
    """
    parts = [image_digest, qemu_identity, KERNEL_COMMAND_LINE, str(spec.control_mb)]
    parts += [*_guest_visible(spec, accelerator), *spec.qemu_args]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _guest_visible(spec: MachineSpec, accelerator: str) -> list[str]:
    """Everything that decides what hardware the guest sees."""
    argv = [
        *("-M", spec.machine),
        *("-accel", "kvm" if accelerator == "kvm" else "tcg,thread=multi"),
        # `max` instead of `host` also with KVM: the same argument, and all that the host can give.
        *("-cpu", "max"),
        *("-smp", str(spec.cpus), "-m", str(spec.memory_mb)),
        *("-nodefaults", "-no-user-config"),
        *("-device", "virtio-blk-pci,drive=root,addr=0x3"),
        *("-device", "virtio-blk-pci,drive=state,addr=0x4"),
        *("-device", "virtio-net-pci,netdev=net,romfile=,addr=0x5"),
        *("-device", "pvpanic-pci,addr=0x6"),
        *("-device", "isa-serial,chardev=console"),
    ]
    for number, share in enumerate(spec.shares):
        slot = FIRST_SHARE_SLOT + number
        argv += ["-device", f"virtio-9p-pci,fsdev=fs{number},mount_tag={_escaped(share.tag)},addr={slot:#x}"]
    return argv


def _escaped(value: object) -> str:
    """A value inside a QEMU option list, where a comma is written twice."""
    return str(value).replace(",", ",,")
