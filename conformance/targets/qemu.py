"""Targets of kind `qemu`: a guest under QEMU, with QEMU's own virtio-9p device under test."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError, UsageError
from conformance.mounts import MountOptions
from conformance.targets.deployment import Progress
from conformance.targets.guest_mount import mount_9p, unmount
from conformance.targets.scratch import Scratch
from conformance.targets.spec import Target
from guests.agentlink import AgentLink, LinkLost, LocalChannel
from guests.machine import MachineSpec, QemuMachine, Share

TAGS = ("share0", "share1", "share2", "share3")
MOUNT_POINT = "/mnt/share0"


class QemuDeployment:
    """One machine with four shares; `share0` is the one that cases run on."""

    def __init__(self, target: Target, run_dir: Path, progress: Progress, options: dict[str, Any]) -> None:
        self.target, self.run_dir, self.progress = target, run_dir, progress
        table = target.machine
        self.qemu = find_program(options.get("qemu") or table.program)
        self.base = Path(tempfile.mkdtemp(prefix="machine-", dir=run_dir))
        os.chmod(self.base, 0o755)
        self._scratch = Scratch()
        self.exports = {tag: self._scratch.path / tag for tag in TAGS}
        self.spec = MachineSpec(
            image=options.get("image") or table.image,
            run_dir=self.base,
            shares=tuple(
                Share(tag=tag, path=path, security_model=options.get("security_model") or table.security_model,
                      multidevs=table.multidevs, readonly=bool(options.get("readonly")))
                for tag, path in self.exports.items()
            ),
            qemu=self.qemu,
            qemu_args=(*table.arguments, *options.get("qemu_args", ())),
            memory_mb=table.memory_mb,
        )  # fmt: skip
        self.security_model = self.spec.shares[0].security_model
        self.version = program_version(self.qemu)
        self.inside_root, self.outside_root = MOUNT_POINT, str(self.exports["share0"])
        self.control_root = "/control/assay9"
        self.traced = False
        self.features: frozenset[str] = frozenset()
        self._keep = bool(options.get("keep_guest"))
        self._machine: QemuMachine | None = None
        self._mounted: MountOptions | None = None

    @property
    def machine(self) -> QemuMachine:
        """The running machine."""
        if self._machine is None:
            raise InfrastructureError("the guest is not running")
        return self._machine

    def start(self) -> None:
        """See Deployment."""
        for path in self.exports.values():
            path.mkdir(parents=True, exist_ok=True)
            os.chmod(path, 0o755)
        host = {"host-root", "mount-namespace"} if os.geteuid() == 0 else set()
        # As root, the agent outside and QEMU live in a mount namespace of the run's own: what property cases
        # mount there nobody else sees, and it is gone when they are.
        prefix = ("unshare", "--mount", "--propagation", "slave", "--") if host else ()
        channel = LocalChannel(prefix, stderr=self.base / "outside-agent.log")
        self.outside = AgentLink(channel)
        self.outside.call("getpid")
        launcher = ("nsenter", f"--mount=/proc/{channel.pid}/ns/mnt", "--") if host else ()
        self._machine = QemuMachine(replace(self.spec, launcher=launcher), progress=self.progress)
        self._machine.start()
        self._connect()
        model = {"passthrough-ownership"} if self.security_model == "passthrough" and host else set()
        guest = {"guest-root", "remount"} | ({"trace"} if self.traced else set())
        self.features = frozenset(host | model | guest | set(self.target.profile.features))

    def _connect(self) -> None:
        self.inside = AgentLink(self.machine.agent_channel())
        self.control = self.inside
        self.inside.call("rmtree", self.control_root)
        self.inside.call("mkdir", self.control_root)
        self.kernel = self.inside.call("uname")[2]
        self.traced = self.inside.call("trace_begin")
        self._mounted = None

    def environment(self) -> dict[str, Any]:
        """See Deployment."""
        return {
            "target_version": f"QEMU {self.version}",
            "argv": [str(a) for a in self.machine.argv],
            "guest_image": self.spec.image,
            "guest_kernel": self.kernel,
            "accelerator": self.machine.accelerator,
            "security_model": self.security_model,
        }

    def mount(self, options: MountOptions) -> str:
        """See Deployment."""
        unmount(self.inside, MOUNT_POINT)
        self._mounted = options
        return mount_9p(self.inside, "share0", MOUNT_POINT, options, "trans=virtio")

    def mark(self) -> Any:
        """See Deployment."""
        return self.machine.console.mark()

    def excerpts(self, mark: Any) -> list[tuple[str, str]]:
        """See Deployment."""
        return [(f"console: {event.kind}", event.text) for event in self.machine.console.since(mark)]

    def trouble(self) -> str | None:
        """See Deployment."""
        if not self.machine.alive():
            return "the guest or its QEMU died"
        try:
            self.inside.call("getpid", timeout=5.0)
        except LinkLost as e:
            return f"the guest no longer answers: {e}"
        except Exception as e:  # noqa: BLE001 - whatever it is, the guest does not serve
            return f"the guest's agent does not serve: {e}"
        return None

    def recover(self) -> None:
        """See Deployment."""
        with contextlib.suppress(InfrastructureError, OSError):
            self.inside.close()
        self.machine.restore()
        self._connect()

    def stop(self) -> None:
        """See Deployment."""
        for name in ("inside", "outside"):
            link = getattr(self, name, None)
            if link is not None:
                with contextlib.suppress(InfrastructureError, OSError):
                    link.close()
        if self._machine is not None and not self._keep:
            self._machine.stop()
            self._machine = None
        if not self._keep:
            self._scratch.remove()


def find_program(name: str) -> str:
    """The hypervisor's path. Raises UsageError that says what to install."""
    path = shutil.which(name)
    if path is None:
        raise UsageError(f"{name} is not installed: run `make setup`, or name yours with --qemu PATH")
    return path


def program_version(program: str) -> str:
    """`7.2.22` of `qemu-system-x86_64 --version`."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as e:
        raise InfrastructureError(f"{program} --version fails: {e}", "name a working QEMU with --qemu PATH") from None
    found = re.search(r"version (\S+)", done.stdout)
    return found[1] if found else done.stdout.strip()[:40]
