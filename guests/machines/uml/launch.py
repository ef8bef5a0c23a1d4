"""One start of a User-Mode Linux guest: its processes, its console device, its files."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil

from guests.access.ssh import SshShell, image_shell
from guests.build_tools import user_namespace_problem
from guests.errors import InfrastructureError
from guests.host import paths
from guests.host.endings import sent_signal
from guests.host.processes import dying_with_parent, exiting, start_time
from guests.host.waiting import happens
from guests.images.store import Image
from guests.machines.started import StartedOnLines
from guests.machines.uml.console import ConsoleServer
from guests.machines.uml.kernel import UmlKernel
from guests.machines.uml.memory import memory_root
from guests.machines.uml.root import control_disk, initramfs
from guests.machines.uml.spec import MAX_DEVICES, Host, UmlSpec, uml_argv

GUEST_ADDRESS = "10.0.2.15"
_TAP = "tap0"
_TAP_PROGRAM = Path(__file__).with_name("tap.py")
_ATTEMPT = 0.05
_ENDING = 60.0
"""Seconds for the processes above a kernel that has ended to end as well; a busy host needs some of them."""


class UmlLaunch(StartedOnLines):
    """A running User-Mode Linux."""

    program = "User-Mode Linux"
    letter = "u"
    patience = 30.0

    def __init__(self, spec: UmlSpec, kernel: UmlKernel, image: Image, log: Path) -> None:
        """Start it. When this raises InfrastructureError, no process and no file is left."""
        if len(spec.devices) > MAX_DEVICES:
            raise InfrastructureError(f"{len(spec.devices)} devices", f"a machine has room for {MAX_DEVICES}")
        super().__init__(log)
        self.spec, self.image = spec, image
        self._kernel: tuple[int, int | None] = (0, None)
        """Pid and start time of the kernel's first process, once it is up."""
        self.console: ConsoleServer | None = None
        self.tap = _TAP if spec.network and tap_possible() else ""
        self._memory = memory_root(spec.memory_mb, spec.memory_dir) / f"assay9-{self.name}"
        # The disk is not kept with the memory: /dev/shm may be small, and so may the runtime directory.
        disks = paths.cache_dir() / f".{self.name}"
        try:
            self._claim(self._memory, disks)
            host = Host(
                kernel=kernel.program,
                initramfs=self._files / "initramfs",
                root=image.root,
                control=disks / "control",
                console_socket=self._files / "console",
                directory=self._files,
                tap=self.tap,
            )
            self.argv = uml_argv(spec, host)
            host.initramfs.write_bytes(initramfs(image))
            control_disk(host.control, spec.control_mb)
            self.console = ConsoleServer(host.console_socket)
            argv = self.argv
            if self.tap:
                argv = [sys.executable, "-I", "-S", str(_TAP_PROGRAM), self.tap, *argv]
            # A kernel that panics aborts; its core would be all of the guest's memory.
            argv = ["prlimit", "--core=0", "--", *spec.launcher, *_apart(bool(self.tap)), *argv]
            self._spawn(dying_with_parent(argv), TMPDIR=str(self._memory))
        except BaseException:
            self.stop()
            raise

    def wait_ready(self, limit: float) -> None:
        assert self.console is not None
        try:
            self.console.wait(limit, self.runs)
        except InfrastructureError as error:
            if self.runs():
                raise
            raise InfrastructureError(self.why_ended(), f"see {self._log}") from error
        self._kernel = (self.pid, start_time(self.pid))

    def _line(self) -> socket.socket:
        assert self.console is not None
        return self.console.open(self.patience, self.runs)

    def connect(self, limit: float = 30.0) -> SshShell:
        """See Started: through the machine's own network namespace, which needs root and /dev/net/tun."""
        if not self.tap:
            return super().connect(limit)
        connection = self._through_namespace(limit)
        return image_shell(22, self.image.key, self.image.known_host, limit, connection=connection)

    @property
    def pid(self) -> int:
        """The kernel's pid on the host; 0 when it has ended."""
        return next((child.pid for child in self._tree() if child.name() == "linux"), 0)

    def sent_signal(self, within: float = 0.0) -> str | None:
        """See Started. A shell may be the kernel's parent (see `_apart`)."""
        if self.process is None:
            return None
        pid, started = self._kernel
        if self.process.poll() is None and pid and (start_time(pid) != started or exiting(pid)):
            # Its sockets close before the processes that wait for it have ended, and its children may live.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_ENDING)
        return sent_signal(self.process.poll(), by_shell=True)

    def stop(self) -> None:
        """See Started: the whole tree ends."""
        if self.process is not None:
            tree = [(child.pid, start_time(child.pid)) for child in self._tree()]
            self.process.kill()
            self.process.wait()
            for pid, started in tree:
                # In a PID namespace they end with its first process; without one each must be killed.
                if started is not None and start_time(pid) == started:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, 9)
            happens(lambda: all(s is None or start_time(p) != s for p, s in tree), 5.0, 0.005)
        if self.console is not None:
            self.console.close()
        super().stop()

    def _tree(self) -> list[psutil.Process]:
        if self.process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def _through_namespace(self, limit: float) -> socket.socket:
        """A connection to the guest's sshd, made by a thread that enters the namespace and ends with it."""
        made: list[socket.socket] = []

        def attempted() -> bool:
            with contextlib.suppress(OSError):
                made.append(socket.create_connection((GUEST_ADDRESS, 22), timeout=2.0))
            return bool(made) or not self.runs()

        def connect() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            with contextlib.suppress(OSError), open(f"/proc/{self.pid}/ns/net", "rb") as namespace:
                if libc.setns(namespace.fileno(), 0x40000000) != 0:
                    return
                happens(attempted, limit, _ATTEMPT)

        thread = threading.Thread(target=connect, name="uml-ssh")
        thread.start()
        thread.join()
        if not made:
            raise InfrastructureError("the guest's sshd did not answer on its TAP", f"see {self._log}")
        return made[0]


def tap_possible() -> bool:
    """Whether a TAP can be made: needs root and the device."""
    return os.geteuid() == 0 and os.access("/dev/net/tun", os.R_OK | os.W_OK)


def _apart(network: bool) -> tuple[str, ...]:
    """A PID namespace: otherwise the guest's processes, which are traced children, would outlive a killed kernel.

    If an ordinary user may not make one, ``stop`` ends the tree itself.
    """
    if shutil.which("unshare") is None or (os.geteuid() != 0 and user_namespace_problem() is not None):
        return ()
    rootless = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    net = ("--net",) if network else ()
    # A shell is the namespace's first process: the kernel, when it panics, aborts, which a first process cannot.
    return (
        "unshare",
        *rootless,
        *net,
        "--mount",
        "--pid",
        "--mount-proc",
        "--fork",
        "--kill-child=KILL",
        "--",
        "sh",
        "-c",
        '"$@"; exit $?',
        "sh",
    )
