"""Targets of kind `qemu`: a guest under QEMU, with QEMU's own virtio-9p device under test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

from conformance.errors import InfrastructureError, UsageError
from conformance.sut.linux_guest import TAGS, GuestDeployment
from conformance.sut.qemu import security_models
from conformance.sut.qemu.second_vm import Devices, SecondMachines
from conformance.sut.spec import MachineTable, Target
from conformance.vfs.compare import Comparer
from conformance.vfs.deployment import Device, Place, Progress
from conformance.vfs.mount_options import MountOptions
from guests.host.progress import silent
from guests.machines.qemu import private as private_qemu
from guests.machines.qemu.machine import MachineSpec, QemuMachine, Share
from guests.machines.spec import Access, SecurityModel
from guests.words import unknown

ODD_NAME = "a name, with=odd 'characters' \N{LATIN SMALL LETTER U WITH DIAERESIS}"


class QemuDeployment(GuestDeployment[QemuMachine]):
    """One machine with four shares; `share0` is the one that cases run on, unless they ask for another."""

    def __init__(
        self,
        target: Target,
        run_dir: Path,
        progress: Progress,
        options: dict[str, Any],
        devices: Devices = (),
    ) -> None:
        table = target.machine
        self.qemu = find_program(options.get("qemu") or table.program, progress)
        version, model = program_version(self.qemu), security_model(options.get("security_model"), table)
        super().__init__(target, run_dir, progress)  # makes directories, so what may be refused comes before
        self._options = options
        self.security_model: str = model
        given = [*devices, *[Device(multidevs=table.multidevs)] * (len(TAGS) - len(devices))]
        self.devices = [replace(d, security_model=d.security_model or model) for d in given]
        self.exports = [
            self._scratch.path / (ODD_NAME if device.export == "odd-name" else tag)
            for tag, device in zip(TAGS, self.devices, strict=True)
        ]
        self.spec = MachineSpec(
            image=options.get("image") or table.image,
            run_dir=self.base,
            shares=tuple(
                Share(
                    tag=tag,
                    path=self._given(export, device),
                    multidevs=device.multidevs,
                    readonly=device.readonly,
                    security_model=cast(SecurityModel, device.security_model),
                )
                for tag, export, device in zip(TAGS, self.exports, self.devices, strict=True)
            ),
            qemu=self.qemu,
            qemu_args=(*table.arguments, *options.get("qemu_args", ())),
            memory_mb=max(table.memory_mb, options.get("memory_mb", 0)),
            extra_packages=tuple(options.get("packages", ())),
            keep=bool(options.get("keep_guest")),
            access=access(options.get("access")),
        )
        self.version, self.image = version, self.spec.image
        self.inside_root, self.outside_root = self.mount_point(0), str(self.exports[0])
        self.comparer = self._comparer_for(self.security_model)
        self.host_view = ""
        """What to put before a path of outside to see it from this process: mounts of the run's namespace too."""
        self._keep = bool(options.get("keep_guest"))
        self._second = SecondMachines(self._alike)

    def _given(self, export: Path, device: Device) -> Path:
        """What QEMU is told to export."""
        return export.with_name(f"{export.name}-link") if device.export == "symlink" else export

    def _comparer_for(self, model: str) -> Comparer:
        rules = security_models.rules(model, os.geteuid() == 0)
        return Comparer({**rules, **self.target.profile.overrides()}, partial(security_models.hidden, model))

    def _alike(self, devices: Devices) -> QemuDeployment:
        """Another machine with those devices, not yet started."""
        options = {**self._options, "keep_guest": False}
        return QemuDeployment(self.target, self.run_dir, self.progress, options, devices)

    def _directories(self) -> Sequence[Path]:
        return self.exports

    def _bring_up(self) -> None:
        for path, share in zip(self.exports, self.spec.shares, strict=True):
            path.mkdir(parents=True, exist_ok=True)
            os.chmod(path, 0o755)
            if share.path != path:
                share.path.unlink(missing_ok=True)
                share.path.symlink_to(path)
        host = {"host-root", "mount-namespace"} if os.geteuid() == 0 else set()
        self.outside, namespace = self._agent_outside(contained=bool(host))
        if room := options_mb(self._options):
            self._own_file_system(room, namespace)
        self._machine = QemuMachine(self.machine_spec(self.launcher), progress=self.progress)
        self._machine.start()
        self._connect()
        model = {"passthrough-ownership"} if self.security_model == "passthrough" and host else set()
        guest = {"guest-root", "remount", "four-shares", "mount-tags", "qemu-machine"}
        guest |= {"trace"} if self.traced else set()
        self.features = frozenset(host | model | guest | set(self.target.profile.features))

    def machine_spec(self, launcher: tuple[str, ...]) -> MachineSpec:
        """The machine as it is started, by `launcher` where the run has a mount namespace."""
        return replace(self.spec, launcher=launcher)

    def _own_file_system(self, megabytes: int, namespace: int) -> None:
        """Give the first export a file system of its own, which only the mount namespace of the run has.

        It can be filled without harm to this host. Its image is a sparse file below the scratch directory.
        """
        image = self._scratch.path / "export.ext4"
        call = self.outside.call
        for argv in (
            ["truncate", "-s", f"{megabytes}M", str(image)],
            ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1", str(image)],
            ["mount", "-o", "loop", str(image), str(self.exports[0])],
            ["rmdir", f"{self.exports[0]}/lost+found"],
        ):
            done = call("run", argv, timeout=300.0)
            if done["status"] != 0:
                said = done["stderr"].decode(errors="replace").strip()
                raise InfrastructureError(
                    f"no file system of its own for the export: {argv[0]}: {said}",
                    "it needs root, loop devices and room in /var/tmp",
                )
        self.host_view = f"/proc/{namespace}/root"

    def environment(self) -> dict[str, Any]:
        """See Deployment."""
        return {
            "target_version": f"QEMU {self.version}",
            "argv": [str(a) for a in self.machine.argv],
            "guest_image": self.spec.image,
            "guest_image_hash": self.machine.image_digest,
            "guest_kernel": self.kernel,
            "accelerator": self.machine.accelerator,
            "accelerator_reason": self.machine.accelerator_reason,
            "access": self.machine.reached_by,
            "security_model": self.security_model,
        }

    def place(self, number: int, label: str, options: MountOptions, *, in_second_machine: bool) -> Place:
        """A share of this machine, mounted so."""
        line = self._mount(number, options)
        return Place(
            label=label,
            deployment=self,
            inside_root=self.mount_point(number),
            outside_root=str(self.exports[number]),
            export=str(self.spec.shares[number].path),
            mount_line=line,
            comparer=self._comparer_for(self.devices[number].security_model),
            in_second_machine=in_second_machine,
        )

    def beside(self, number: int, options: MountOptions) -> Place:
        """See Deployment."""
        return self.place(number, TAGS[number], options, in_second_machine=False)

    def another(self, device: Device, options: MountOptions) -> Place:
        """See Deployment."""
        return self._second.place(device, options)

    def discard(self, place: Place) -> None:
        """See Deployment."""
        self._second.discard()

    def processes(self) -> dict[str, int]:
        """See Deployment."""
        return {"device": self.machine.pid} if self._machine is not None and self._machine.pid else {}

    def stop(self) -> None:
        """See Deployment."""
        self._second.discard()
        if self._keep and (machine := self._machine) is not None:
            self._machine = None
            self._close_links()
            name = machine.name
            machine.leave()
            self._scratch.leave()
            self.progress(
                f"guest {name} is left running, its exports in {self._scratch.path}; "
                f"`assay9 guest ssh {name}`, and `assay9 guest clean` ends it"
            )
        else:
            super().stop()


def options_mb(options: dict[str, Any]) -> int:
    """Size of the first export's own file system in MiB, 0 for a plain directory."""
    return int(options.get("export_mb", 0))


def security_model(asked: str | None, table: MachineTable) -> SecurityModel:
    """The model asked for on the command line; else the target's own, or mapped-xattr where that needs host root."""
    if asked is None:
        return "mapped-xattr" if table.security_model == "passthrough" and os.geteuid() != 0 else table.security_model
    if asked not in security_models.MODELS:
        raise UsageError(unknown("security model", asked, security_models.MODELS))
    if asked == "passthrough" and os.geteuid() != 0:
        raise UsageError("security model passthrough needs root on the host: use mapped-xattr, or run as root")
    return cast(SecurityModel, asked)


def access(asked: str | None) -> Access:
    """How the guest is reached: SSH, unless the command line says otherwise. Raises UsageError."""
    if asked not in (None, *get_args(Access)):
        raise UsageError(unknown("access", str(asked), get_args(Access)))
    return cast(Access, asked or "ssh")


def find_program(name: str, progress: Progress = silent) -> str:
    """The hypervisor's path; `qemu11` is one of our own, fetched first where it is not in the cache.

    Raises UsageError where a path names none, InfrastructureError that says what to install.
    """
    if name == private_qemu.NAME:
        return str(private_qemu.ensure_private_qemu(progress))
    path = shutil.which(name)
    if path is None and "/" in name:
        raise UsageError(f"{name} is no program that can be run: name another with --qemu PATH")
    if path is None:
        raise InfrastructureError(f"{name} is not installed", "run `make setup`, or name yours with --qemu PATH")
    return path


def program_version(program: str) -> str:
    """`7.2.22` of `qemu-system-x86_64 --version`."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, errors="replace", timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as e:
        raise InfrastructureError(f"{program} --version fails: {e}", "name a working QEMU with --qemu PATH") from None
    found = re.search(r"version (\S+)", done.stdout)
    return found[1] if found else done.stdout.strip()[:40]
