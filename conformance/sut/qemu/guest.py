"""A guest under QEMU with four exported directories; the deployment decides what serves them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from conformance.errors import InfrastructureError
from conformance.sut.options import Load
from conformance.sut.parts.devices.security_models import comparer
from conformance.sut.parts.linux_guest import TAGS, GuestDeployment
from conformance.sut.qemu.program import find_program, program_version
from conformance.sut.qemu.tables import MachineOptions, MachineTarget
from conformance.vfs.deployment import Progress
from guests.images.store import Image
from guests.machines.qemu.machine import QemuMachine
from guests.machines.spec import Access, MachineSpec


class QemuGuest(GuestDeployment[QemuMachine]):
    """One machine; cases run on its first share unless they request another."""

    def __init__(
        self,
        target: MachineTarget,
        run_dir: Path,
        progress: Progress,
        options: MachineOptions = MachineOptions(),  # noqa: B008 - frozen
        load: Load | None = None,
    ) -> None:
        table, load = target.machine, load or Load()
        self.qemu = find_program(options.qemu or table.program, progress)
        self.version = program_version(self.qemu)
        self.hypervisor = f"QEMU {self.version}"
        # makes directories, so checks come before it
        super().__init__(target, run_dir, progress, options.export_fs)
        self.exports = [self.host.scratch.path / tag for tag in TAGS]
        self.spec = MachineSpec(
            image=options.image or table.image,
            run_dir=self.base,
            shares=(),
            qemu=self.qemu,
            qemu_args=(*table.arguments, *options.qemu_args),
            memory_mb=max(table.memory_mb, load.memory_mb),
            extra_packages=load.packages,
            keep=options.keep_guest,
            access=cast(Access, options.access or "ssh"),
            reaches_host=load.reaches_host,
        )
        self.image, self.guest_mb = self.spec.image, self.spec.memory_mb
        self.inside_root, self.outside_root = self.mount_point(0), str(self.exports[0])
        self.comparer = comparer("passthrough", target.profile.overrides())
        self._room_mb = load.export_mb
        self._with_room: tuple[Path, ...] = (self.exports[0],)
        """The exports that get a file system of their own, where there is to be room."""
        self._keep = options.keep_guest

    def _bring_up(self) -> None:
        self._make_exports()
        root = os.geteuid() == 0
        self.outside = self._agent_outside()
        for path in self._with_room if self._room_mb else ():
            self._own_file_system(path, self._room_mb)
        self._machine = QemuMachine(self._machine_spec(), progress=self.progress)
        self._machine.start()
        self._connect()
        host = {"host-root", "mount-namespace"} if root else set()
        guest = {"guest-root", "remount", "four-shares"} | ({"trace"} if self.traced else set())
        self.features = frozenset(host | guest | self._served() | set(self.target.profile.features))

    def _served(self) -> set[str]:
        """The features that depend on what serves the shares."""
        return {"mount-tags", "passthrough-ownership"}

    def _machine_spec(self) -> MachineSpec:
        """The machine's specification, with the launcher if the run has a mount namespace."""
        return replace(self.spec, launcher=self.host.launcher)

    def _own_file_system(self, export: Path, megabytes: int) -> None:
        """Give an export its own file system, mounted only in the run's mount namespace.

        It can be filled up without harm to this host. Its image is a sparse file below the scratch directory.
        """
        image = self.host.scratch.path / f"{export.name}.ext4"
        calls = self.outside.calls_with(timeout=300.0)
        for argv in (
            ["truncate", "-s", f"{megabytes}M", str(image)],
            ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1", str(image)],
            ["mount", "-o", "loop", str(image), str(export)],
            ["rmdir", f"{export}/lost+found"],
        ):
            done = calls.run(argv)
            if done["status"] != 0:
                said = done["stderr"].decode(errors="replace").strip()
                raise InfrastructureError(
                    f"no file system of its own for the export: {argv[0]}: {said}",
                    "it needs root, loop devices and room in /var/tmp",
                )
        self.host_view = f"/proc/{self.host.pid}/root"

    def _tags_found(self) -> list[str]:
        """The mount tags of the devices that the guest's driver has."""
        command = "cat /sys/bus/virtio/drivers/9pnet_virtio/virtio*/mount_tag"
        said = self.inside.calls.run(["sh", "-c", command])["stdout"]
        return [tag for tag in TAGS if tag.encode() in said]  # some kernels print them without a separator

    def _found(self, number: int) -> bool:
        return TAGS[number] in self._tags_found()

    def suite_image(self) -> Image:
        return self.machine.image

    def environment(self) -> dict[str, Any]:
        own: dict[str, Any] = {"target_version": self.hypervisor}
        if self._serving is not None:
            own = {
                "target_version": self._serving.title,
                "hypervisor": self.hypervisor,
                "server_argv": self._serving.argv,
            }
        return {
            "argv": [str(a) for a in self.machine.argv],
            "guest_image": self.spec.image,
            "guest_image_hash": self.machine.image_digest,
            "guest_kernel": self.kernel,
            "accelerator": self.machine.accelerator,
            "accelerator_reason": self.machine.accelerator_reason,
            "access": self.machine.reached_by,
            **own,
        }

    def stop(self) -> None:
        if self._keep and (machine := self._machine) is not None:
            self._machine = None
            self._close_links()
            name = machine.name
            machine.leave()
            self.host.scratch.leave()
            self.progress(
                f"guest {name} is left running, its exports in {self.host.scratch.path}; "
                f"`assay9 guest ssh {name}`, and `assay9 guest clean` ends it"
            )
        else:
            super().stop()
