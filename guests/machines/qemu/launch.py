"""One start of QEMU: its process, control socket, private copy of the disk; and the end of all that."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import secrets
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
from guests.host.endings import how_ended, last_words, sent_signal
from guests.host.files import remove_tree
from guests.host.processes import claim, dying_with_parent, end, reap
from guests.host.waiting import wait_until
from guests.images.store import Image
from guests.machines.qemu.accelerator import find_qemu
from guests.machines.qemu.argv import Host, qemu_argv
from guests.machines.qemu.qmp import Qmp
from guests.machines.spec import MachineSpec

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


class Launch:
    """A running QEMU. Make one, ``wait_ready``, and ``stop`` it; it cannot be started again."""

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

        ``kernel_arguments`` are further words for a kernel that is booted.

        When this raises, no process and no file is left.
        """
        self.spec = spec
        self.image = image
        self.logs = logs
        self.ssh_port, self.resident_port = _free_ports(2)
        if spec.ssh_port is not None:
            self.ssh_port = spec.ssh_port
        self.process: subprocess.Popen[bytes] | None = None
        self.qmp: Qmp | None = None
        self.name = name = f"m-{secrets.token_hex(4)}"
        self._sockets = paths.runtime_dir() / name
        # Apart from the sockets: the disk is big, and the runtime directory may be a small tmpfs.
        self._disks = paths.cache_dir() / f".{name}"
        self.disk = self._disks / "state.qcow2"
        self.console_socket = self._sockets / "console"
        self._state = replace(
            claim(name, (self._sockets, self._disks), spec.keep),
            image=spec.image,
            ssh_port=self.ssh_port,
            key=str(image.key),
            known_host=str(image.known_host),
            console_socket=str(self.console_socket),
            console_log=str(logs["console"]),
        )
        try:
            self._sockets.mkdir(mode=0o700)
            self._disks.mkdir()
            _copy(state, self.disk)
            host = Host(
                kernel=image.vmlinux,
                initramfs=image.initramfs,
                root=image.root,
                state=self.disk,
                console_socket=self.console_socket,
                console_log=logs["console"],
                qmp_socket=self._sockets / "qmp",
                ssh_port=self.ssh_port,
                resident_port=self.resident_port,
            )
            found = replace(spec, qemu=str(find_qemu(spec.qemu)))
            self.argv = qemu_argv(found, accelerator, host, restore, kernel_arguments)
            self._spawn(host.qmp_socket)
        except BaseException:
            self.stop()
            raise

    def wait_ready(self, limit: float) -> None:
        """Return when the guest answers; InfrastructureError after ``limit`` seconds."""
        self.run_python(b"", limit).close()

    def check_clock(self) -> Rate:
        """Set the guest's clock and see how fast it runs. Raises WrongClock, InfrastructureError."""
        return check_and_set(self._clock_channel())

    def clock_rate(self) -> float:
        """How fast the guest's clock runs, measured until it is known to a thousandth. Raises InfrastructureError."""
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
        """QEMU has not ended."""
        return self.process is not None and reap(self.process) is None

    def events(self) -> list[dict[str, Any]]:
        """QMP events so far, oldest first."""
        return self.qmp.events() if self.qmp is not None else []

    def why_ended(self) -> str:
        """One line: how QEMU ended, and its last words."""
        return how_ended("QEMU", self.process, self._last_words())

    def sent_signal(self, within: float = 0.0) -> str | None:
        """The signal with which another process ended QEMU, or None. ``within`` seconds it may still take to end."""
        if self.process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(within)
        if self.runs():
            return None
        return sent_signal(self.process.poll(), self._last_words())

    def stop(self) -> None:
        """End QEMU and remove disk and sockets. Never raises; may be called again."""
        if self.qmp is not None:
            self.qmp.close()
        if self.process is not None:
            end(self.process)
        remove_tree(self._disks)
        remove_tree(self._sockets)
        with contextlib.suppress(OSError):
            self._state.file.unlink(missing_ok=True)

    def leave(self) -> None:
        """Forget a kept machine without ending it."""
        if self.qmp is not None:
            self.qmp.close()

    def _spawn(self, qmp_socket: Path) -> None:
        argv = [*self.spec.launcher, *self.argv]
        argv = argv if self.spec.keep else dying_with_parent(argv)
        self._log_from = self.logs["qemu"].stat().st_size if self.logs["qemu"].exists() else 0
        with self.logs["qemu"].open("ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._state = self._state.with_process(self.process.pid)
        self._state.write()

        def connected() -> Qmp | None:
            if self.process is None or self.process.poll() is not None:
                raise self._refusal()
            return self._qmp(qmp_socket) if qmp_socket.exists() else None

        what = "QEMU did not open its control socket"
        self.qmp = wait_until(connected, _START_LIMIT, what, f"see {self.logs['qemu']}", interval=0.005)

    def _qmp(self, path: Path) -> Qmp | None:
        """Connect; None while QEMU has bound the socket and does not listen yet.

        QEMU opens its sockets before it looks at the rest of its arguments, and may end on those.
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

    def _last_words(self) -> str:
        return last_words(self.logs["qemu"], self._log_from)


def require_free_port(port: int) -> None:
    """Raise PortTaken where QEMU will not be able to listen; asked before anything slow is done for it."""
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


def launch(
    spec: MachineSpec,
    accelerator: str,
    image: Image,
    *,
    logs: dict[str, Path],
    state: Path,
    restore: bool,
    kernel_arguments: tuple[str, ...] = (),
) -> Launch:
    """A ``Launch``; tried again when another program took a free port before QEMU could."""
    attempts = 1 if spec.ssh_port is not None else _PORT_ATTEMPTS
    while True:
        attempts -= 1
        try:
            return Launch(
                spec, accelerator, image, logs=logs, state=state, restore=restore, kernel_arguments=kernel_arguments
            )
        except PortTaken:
            if attempts == 0:
                raise


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
