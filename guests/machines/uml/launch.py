"""One start of a User-Mode Linux guest: its processes, its console device, its files."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil

from guests.access.launcher import SocketLineChannel
from guests.access.ssh import SshShell, image_shell
from guests.build_tools import user_namespace_problem
from guests.errors import InfrastructureError
from guests.host import paths
from guests.host.endings import how_ended, last_words, sent_signal
from guests.host.files import remove_tree
from guests.host.ports import start_program
from guests.host.processes import claim, dying_with_parent, exiting, start_time
from guests.host.waiting import happens
from guests.images.store import Image
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


class UmlLaunch:
    """A running guest. Make one, ``wait_ready``, and ``stop`` it; it cannot be started again."""

    def __init__(self, spec: UmlSpec, kernel: UmlKernel, image: Image, log: Path) -> None:
        """Start it. When this raises InfrastructureError, no process and no file is left."""
        if len(spec.devices) > MAX_DEVICES:
            raise InfrastructureError(f"{len(spec.devices)} devices", f"a machine has room for {MAX_DEVICES}")
        self.spec, self.image, self.log = spec, image, log
        self.name = name = f"u-{secrets.token_hex(4)}"
        self.process: subprocess.Popen[bytes] | None = None
        self._kernel: tuple[int, int | None] = (0, None)
        """Pid and start time of the kernel's first process, once it is up."""
        self.console: ConsoleServer | None = None
        self.tap = _TAP if spec.network and tap_possible() else ""
        self._files = paths.runtime_dir() / name
        self._memory = memory_root(spec.memory_mb, spec.memory_dir) / f"assay9-{name}"
        # The disk is apart from the memory: /dev/shm may be small, and the runtime directory, too.
        self._disks = paths.cache_dir() / f".{name}"
        self._state = claim(name, (self._files, self._memory, self._disks), keep=False)
        self._log_from = log.stat().st_size if log.exists() else 0
        try:
            self._files.mkdir(mode=0o700)
            self._memory.mkdir(mode=0o700)
            self._disks.mkdir()
            host = Host(
                kernel=kernel.program,
                initramfs=self._files / "initramfs",
                root=image.root,
                control=self._disks / "control",
                console_socket=self._files / "console",
                directory=self._files,
                tap=self.tap,
            )
            self.argv = uml_argv(spec, host)
            host.initramfs.write_bytes(initramfs(image))
            control_disk(host.control, spec.control_mb)
            self.console = ConsoleServer(host.console_socket)
            self._spawn()
        except BaseException:
            self.stop()
            raise

    def wait_ready(self, limit: float) -> None:
        """Return when the guest waits for programs; InfrastructureError after ``limit`` seconds."""
        assert self.console is not None
        try:
            self.console.wait(limit, self.runs)
        except InfrastructureError as error:
            if self.runs():
                raise
            raise InfrastructureError(self.why_ended(), f"see {self.log}") from error
        self._kernel = (self.pid, start_time(self.pid))

    def run_python(self, source: bytes, limit: float = 30.0) -> SocketLineChannel:
        """Run Python source in the guest; the channel is its standard input and output."""
        assert self.console is not None
        connection = self.console.open(limit, self.runs)
        try:
            connection.settimeout(limit)
            gone = InfrastructureError("the guest ended the connection before it answered", f"see {self.log}")
            start_program(connection, source, gone)
            connection.settimeout(None)
        except TimeoutError:
            connection.close()
            raise InfrastructureError(f"the guest started no program within {limit:.0f} s", f"see {self.log}") from None
        except BaseException:
            connection.close()
            raise
        return SocketLineChannel(connection)

    def connect(self, limit: float = 30.0) -> SshShell:
        """An SSH connection, through the machine's own network namespace. Raises InfrastructureError without one."""
        if not self.tap:
            raise InfrastructureError(
                "this guest has no network for SSH: that needs root and /dev/net/tun",
                "use the machine's shell(), which goes over its console",
            )
        connection = self._through_namespace(limit)
        return image_shell(22, self.image.key, self.image.known_host, limit, connection=connection)

    def runs(self) -> bool:
        """The kernel has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The kernel's pid on the host; 0 when it has ended."""
        return next((child.pid for child in self._tree() if child.name() == "linux"), 0)

    def why_ended(self) -> str:
        """One line: how the kernel ended, and its last words."""
        return how_ended("User-Mode Linux", self.process, last_words(self.log, self._log_from))

    def sent_signal(self) -> str | None:
        """The signal with which another process ended the kernel, or None. A shell may be its parent (see `_apart`)."""
        if self.process is None:
            return None
        pid, started = self._kernel
        if self.process.poll() is None and pid and (start_time(pid) != started or exiting(pid)):
            # Its sockets close, and its children may live, before what waits for it has ended too.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_ENDING)
        return sent_signal(self.process.poll(), by_shell=True)

    def stop(self) -> None:
        """End the whole tree and remove files and memory. Never raises; may be called again."""
        if self.process is not None:
            tree = [(child.pid, start_time(child.pid)) for child in self._tree()]
            self.process.kill()
            self.process.wait()
            for pid, started in tree:
                # With a PID namespace they end with its first process; without one each must be killed.
                if started is not None and start_time(pid) == started:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, 9)
            happens(lambda: all(s is None or start_time(p) != s for p, s in tree), 5.0, 0.005)
        if self.console is not None:
            self.console.close()
        remove_tree(self._files)
        remove_tree(self._memory)
        remove_tree(self._disks)
        with contextlib.suppress(OSError):
            self._state.file.unlink(missing_ok=True)

    def _tree(self) -> list[psutil.Process]:
        if self.process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def _spawn(self) -> None:
        argv = self.argv
        if self.tap:
            argv = [sys.executable, "-I", "-S", str(_TAP_PROGRAM), self.tap, *argv]
        # A kernel that panics aborts; its core would be all of the guest's memory.
        argv = ["prlimit", "--core=0", "--", *self.spec.launcher, *_apart(bool(self.tap)), *argv]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                dying_with_parent(argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "TMPDIR": str(self._memory)},
            )
        self._state = self._state.with_process(self.process.pid)
        self._state.write()

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
            raise InfrastructureError("the guest's sshd did not answer on its TAP", f"see {self.log}")
        return made[0]


def tap_possible() -> bool:
    """Whether a TAP can be made: root, and the device is there."""
    return os.geteuid() == 0 and os.access("/dev/net/tun", os.R_OK | os.W_OK)


def _apart(network: bool) -> tuple[str, ...]:
    """A PID namespace: the guest's processes are traced children that outlive a killed kernel otherwise.

    Where an ordinary user may not make one, ``stop`` ends the tree by itself.
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
