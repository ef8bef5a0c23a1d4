"""A guest that is a host itself: a machine with working KVM, on a host that has none.

QEMU's TCG emulates AMD's SVM, so a hypervisor in the guest can run its own guests. It is reached only by SSH, like any
other machine: no directory of this host is shared with it.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from guests.errors import InfrastructureError
from guests.host.progress import Progress, silent
from guests.images.store import Image, ensure_image
from guests.machines.qemu.machine import QemuMachine
from guests.machines.qemu.private import ensure_private_qemu
from guests.machines.spec import MachineSpec

IMAGE = "debian13"
INNER = "debian12"
"""The image of the guest that is to run in it."""
PACKAGES = ("qemu-system-x86", "qemu-utils")
MEMORY_MB = 4096
DISK_MB = 8192

FILES = "/control/guest"
"""Where the outer guest has the files of the inner guest's image: kernel, initramfs, root."""
_SLOT = "0x7"
"""PCI slot of the disk that brings them; free in every machine of ours."""
_COPY = f"""\
set -e
modprobe kvm-amd
test -c /dev/kvm
for i in $(seq 100); do test -b /dev/vdc && break; sleep 0.1; done
mkdir -p {FILES}
tar -xf /dev/vdc -C {FILES}
"""
_COPY_LIMIT = 600.0
"""Seconds; it takes five on an idle machine."""


class OuterHost:
    """The outer guest, the image of its inner guest, and the SSH configuration that reaches both."""

    host = "outer"
    """The outer guest's name in the SSH configuration."""
    guest = "inner"
    """The inner guest's: at a port of the outer one, which is the jump host."""

    def __init__(self, directory: Path, progress: Progress = silent) -> None:
        """`directory` is for logs and the SSH configuration."""
        self._directory, self._progress = directory, progress
        self._machine: QemuMachine | None = None
        self._image: Image | None = None

    @property
    def machine(self) -> QemuMachine:
        """The outer guest. Raises InfrastructureError before it is started."""
        if self._machine is None:
            raise InfrastructureError("the outer guest is not running")
        return self._machine

    @property
    def image(self) -> Image:
        """The image of the inner guest. Raises InfrastructureError before the outer one is started."""
        if self._image is None:
            raise InfrastructureError("the outer guest is not running")
        return self._image

    @property
    def config(self) -> Path:
        """The SSH configuration, as `ssh -F` takes it."""
        return self._directory / "ssh-config"

    def start(self) -> None:
        """Boot it, or restore it from its snapshot, and give it the inner guest's files. Raises InfrastructureError."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._image = image = ensure_image(INNER, progress=self._progress)
        self._machine = QemuMachine(
            MachineSpec(
                image=IMAGE,
                extra_packages=PACKAGES,
                run_dir=self._directory / "outer",
                qemu=str(ensure_private_qemu(self._progress)),
                accelerator="tcg",
                cpus=2,
                memory_mb=MEMORY_MB,
                control_mb=DISK_MB,
            ),
            self._progress,
        )
        try:
            self._machine.start()
            self._bring(image)
            self._write_config(image)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it; may be called twice."""
        machine, self._machine = self._machine, None
        if machine is not None:
            machine.stop()

    def _bring(self, image: Image) -> None:
        """Plug in a disk that holds the image, and copy it: faster than SSH to an emulated processor."""
        archive = self._directory / "guest.tar"
        with tarfile.open(archive, "w") as tar:
            for path in (image.vmlinux, image.initramfs, image.root):
                tar.add(path, path.name)
        self.machine.qmp(
            "blockdev-add",
            **{"driver": "raw", "node-name": "guest", "read-only": True},
            file={"driver": "file", "filename": str(archive)},
        )
        self.machine.qmp("device_add", driver="virtio-blk-pci", id="guest", drive="guest", addr=_SLOT)
        done = self.machine.shell().run(_COPY, _COPY_LIMIT)
        if not done.ok:
            raise InfrastructureError(
                f"the outer guest is not a host for KVM: {done.stderr.strip()[-200:] or 'it has no /dev/kvm'}",
                f"see {self.machine.logs['console']}",
            )

    def _write_config(self, image: Image) -> None:
        known = self._directory / "known_hosts"
        keys = {self.host: self.machine.image, self.guest: image}
        with known.open("w", encoding="utf-8") as file:
            for name, of in keys.items():
                file.write(f"assay9-{name} {' '.join(of.known_host.read_text(encoding='utf-8').split()[:2])}\n")
        common = f"  User root\n  UserKnownHostsFile {known}\n  GlobalKnownHostsFile none\n  IdentityAgent none\n"
        self.config.write_text(
            f"Host {self.host}\n  HostName 127.0.0.1\n  HostKeyAlias assay9-{self.host}\n"
            f"  Port {self.machine.ssh_port}\n  IdentityFile {self.machine.image.key}\n{common}"
            f"Host {self.guest}\n  HostName 127.0.0.1\n  ProxyJump {self.host}\n  HostKeyAlias assay9-{self.guest}\n"
            f"  IdentityFile {image.key}\n{common}",
            encoding="utf-8",
        )
