"""One start of QEMU: its process, control socket and private copy of the disk, and their end."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from guests.access import launcher as resident
from guests.access.launcher import SocketLineChannel
from guests.access.ssh import SshShell, image_shell
from guests.agent.clock import PROGRAM, GuestClock, Rate, check_and_set, over
from guests.errors import InfrastructureError
from guests.host import paths
from guests.host.processes import dying_with_parent, reap
from guests.host.waiting import wait_until
from guests.images.store import Image
from guests.machines.qemu.accelerator import find_qemu
from guests.machines.qemu.argv import Host, qemu_argv
from guests.machines.qemu.qmp import Qmp
from guests.machines.spec import MachineSpec
from guests.machines.started import Started

_FICLONE = 0x40049409
"""linux/fs.h: share the blocks of another file (XFS, Btrfs)."""

_START_LIMIT = 30.0
"""Seconds until QEMU opens its control socket; it takes a tenth of one."""


_PORT_ATTEMPTS = 5
"""Several runs on one machine choose ports at once."""


class PortTaken(InfrastructureError):
    """QEMU cannot listen on the port that is forwarded to SSH."""

    def __init__(self, port: int, why: str = "is taken") -> None:
        super().__init__(f"port {port} on 127.0.0.1 {why}", "choose another, or leave it out: a free one is used then")


class Launch(Started):
    """A running QEMU."""

    program = "QEMU"
    letter = "m"

    def __init__(
        self,
        spec: MachineSpec,
        accelerator: str,
        image: Image,
        *,
        logs: dict[str, Path],
        state: Path,
        restore: bool,
        kernel_arguments: tuple[str, ...] = (),
    ) -> None:
        """Start QEMU on a copy of the qcow2 ``state``, from the snapshot in it when ``restore``.

        ``kernel_arguments`` are further words for a kernel that is booted. When this raises, no process and no file is
        left.
        """
        super().__init__(logs["qemu"])
        self.spec, self.image, self.logs = spec, image, logs
        self.qmp: Qmp | None = None
        # Apart from the sockets: the disk is big, and the runtime directory may be a small tmpfs.
        disks = paths.cache_dir() / f".{self.name}"
        self.disk = disks / "state.qcow2"
        self.console_socket = self._files / "console"
        try:
            self._claim(disks, keep=spec.keep)
            _copy(state, self.disk)
            for left in reversed(range(_PORT_ATTEMPTS if spec.ssh_port is None else 1)):
                try:
                    self._start(accelerator, restore, kernel_arguments)
                    break
                except PortTaken:
                    if not left:
                        raise
        except BaseException:
            self.stop()
            raise

    def wait_ready(self, limit: float) -> None:
        """Return when the guest answers. Raises InfrastructureError after ``limit`` seconds."""
        self.run_python(b"", limit).close()

    def check_clock(self) -> Rate:
        """Set the guest's clock and check its rate. Raises WrongClock, InfrastructureError."""
        return check_and_set(self._clock_channel())

    def clock_rate(self) -> float:
        """The rate of the guest's clock, measured to a thousandth. Raises InfrastructureError."""
        channel = self._clock_channel()
        try:
            return GuestClock(over(channel)).rate(unsure=0.001).value
        finally:
            channel.close()

    def _clock_channel(self) -> SocketLineChannel:
        return SocketLineChannel(self.run_python(PROGRAM))

    def run_python(self, source: bytes, limit: float = 30.0) -> socket.socket:
        """Run Python source in the guest; the socket is its standard input and output."""
        try:
            return resident.connect(self.resident_port, self.image.token, limit, self.runs, source=source)
        except InfrastructureError as error:
            if self.runs():
                raise
            see = f"see {self.logs['qemu']} and {self.logs['console']}"
            raise InfrastructureError(self.why_ended(), see) from error

    def connect(self, limit: float = 30.0) -> SshShell:
        """An SSH connection to the guest."""
        return image_shell(self.ssh_port, self.image.key, self.image.known_host, limit)

    def runs(self) -> bool:
        return self.process is not None and reap(self.process) is None

    def events(self) -> list[dict[str, Any]]:
        """QMP events so far, oldest first."""
        return self.qmp.events() if self.qmp is not None else []

    def stop(self) -> None:
        self.leave()
        super().stop()

    def leave(self) -> None:
        """Forget a kept machine without ending it."""
        if self.qmp is not None:
            self.qmp.close()

    def _start(self, accelerator: str, restore: bool, kernel_arguments: tuple[str, ...]) -> None:
        """Start the process on ports that are free now. Raises PortTaken if another program was faster."""
        self.ssh_port, self.resident_port = _free_ports(2)
        if self.spec.ssh_port is not None:
            self.ssh_port = self.spec.ssh_port
        assert self._state is not None
        self._state = replace(
            self._state,
            image=self.spec.image,
            ssh_port=self.ssh_port,
            key=str(self.image.key),
            known_host=str(self.image.known_host),
            console_socket=str(self.console_socket),
            console_log=str(self.logs["console"]),
        )
        host = Host(
            kernel=self.image.vmlinux,
            initramfs=self.image.initramfs,
            root=self.image.root,
            state=self.disk,
            console_socket=self.console_socket,
            console_log=self.logs["console"],
            qmp_socket=self._files / "qmp",
            ssh_port=self.ssh_port,
            resident_port=self.resident_port,
        )
        host.qmp_socket.unlink(missing_ok=True)
        found = replace(self.spec, qemu=str(find_qemu(self.spec.qemu)))
        self.argv = qemu_argv(found, accelerator, host, restore, kernel_arguments)
        argv = [*self.spec.launcher, *self.argv]
        self._spawn(argv if self.spec.keep else dying_with_parent(argv))

        def connected() -> Qmp | None:
            if self.process is None or self.process.poll() is not None:
                raise self._refusal()
            return self._qmp(host.qmp_socket) if host.qmp_socket.exists() else None

        what = "QEMU did not open its control socket"
        self.qmp = wait_until(connected, _START_LIMIT, what, f"see {self.logs['qemu']}", interval=0.005)

    def _qmp(self, path: Path) -> Qmp | None:
        """Connect; None while QEMU has bound the socket but does not listen yet.

        QEMU opens its sockets before it parses the rest of its arguments, and may end because of those.
        """
        assert self.process is not None
        try:
            return Qmp(path, limit=2 * _START_LIMIT)  # it reads the whole snapshot before it answers
        except InfrastructureError as error:
            if isinstance(error.__cause__, ConnectionRefusedError):
                return None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(2)
                raise self._refusal() from None
            raise

    def _refusal(self) -> InfrastructureError:
        """Why QEMU ended before it answered."""
        words = self._last_words()
        if "host forwarding" in words:
            return PortTaken(self.ssh_port)
        return InfrastructureError(f"QEMU did not start: {words or self.why_ended()}", f"see {self.logs['qemu']}")


def require_free_port(port: int) -> None:
    """Raise PortTaken if QEMU will not be able to listen; checked before anything slow."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as QEMU's user network does
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise PortTaken(port, "is taken" if taken else f"cannot be used: {error.strerror}") from None


def _free_ports(count: int) -> list[int]:
    """TCP ports free at this moment; QEMU may find one taken a moment later (PortTaken)."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _copy(source: Path, target: Path) -> None:
    """Copy a disk, sharing blocks where the file system can."""
    try:
        with source.open("rb") as old, target.open("wb") as new:
            try:
                fcntl.ioctl(new, _FICLONE, old.fileno())
            except OSError:
                shutil.copyfile(source, target)
    except OSError as error:
        raise InfrastructureError(
            f"copying the machine's disk to {target.parent}: {error.strerror}", "free some space there"
        ) from error
