"""A server's process: it cannot outlive the suite, is ended reliably, and its exit is reported in words.

Rule of this module: nothing here knows which program runs. A process dies with the suite even if the suite is killed
with SIGKILL (PR_SET_PDEATHSIG). A process in its own network namespace is reached by a thread that enters the namespace
to make a socket.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from conformance.errors import InfrastructureError
from conformance.ground import GroundLost, ended_by_another
from conformance.sut.parts.containment import contain
from guests.host.endings import OutOfMemory, how_ended, sent_signal
from guests.host.processes import end_with_parent, reap, stopped
from guests.host.sockets import listens
from guests.host.waiting import happens

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_TAIL = 3000

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


class ServerProcess:
    """One running program, its output in a log file."""

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        writable: Sequence[Path],
        own_mounts: Sequence[Path] = (),
        own_network: bool = False,
        ignore_sigpipe: bool = False,
        descriptors: int | None = None,
    ) -> None:
        """Start it; it can write below `writable` and nowhere else (`conformance.sut.parts.containment`), and has an
        empty file system of its own on each of `own_mounts`. `descriptors`: its soft limit on open files.

        Raises InfrastructureError when the program cannot be started so.
        """
        self.argv = list(argv)
        self.log_path = log
        self._network = own_network
        # The log is opened for appending, by the program too, so the output of a program that dies at once is kept.
        prepare = _child_of(os.getpid(), own_network, _resolved(writable), _resolved(own_mounts), descriptors)
        with log.open("ab") as output:
            try:
                self._process = subprocess.Popen(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    restore_signals=not ignore_sigpipe,  # Python itself ignores SIGPIPE
                    preexec_fn=prepare,  # noqa: PLW1509 - prctl needs it; no lock is held
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise InfrastructureError(
                    f"{argv[0]} cannot be started in namespaces of its own: {error}",
                    "run as root: hostile cases are never sent to a server that could write all of this host",
                ) from None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def name(self) -> str:
        """The program, for messages: without wrappers that enter a namespace, and without a module's interpreter."""
        words = self.argv[self.argv.index("--") + 1 :] if self.argv[0] == "nsenter" and "--" in self.argv else self.argv
        if Path(words[0]).name.startswith("python") and "-m" in words[1:-1]:
            return words[words.index("-m") + 1]
        return Path(words[0]).name

    def death(self) -> str | None:
        """How it ended, in words, or None while it runs."""
        if self._process.poll() is None:
            return None
        return how_ended(self.name, self._process, "")

    def ground_lost(self, memory: OutOfMemory) -> GroundLost | None:
        """The error if another process ended or stopped it, or None: its own crashes count against the target."""
        status = reap(self._process)
        if status is None and (why := stopped(self.name, self.pid)) is not None:
            return GroundLost(*why)
        return ended_by_another(self.name, sent_signal(status, self.tail(400)), memory)

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait for `ready`. Raises InfrastructureError if the program ends or the time is over."""

        def ready_or_dead() -> bool:
            if not (up := ready()) and (death := self.death()) is not None:
                raise InfrastructureError(f"{death} while starting: {self.tail(400)}")
            return up

        if not happens(ready_or_dead, seconds):
            self.stop()
            raise InfrastructureError(f"{self.argv[0]} did not come up in {seconds:.0f} s: {self.tail(400)}")

    def wait_until_listening(self, socket: Path, seconds: float) -> None:
        """Wait until connections to its Unix socket are taken. Raises as `wait_until` does."""
        self.wait_until(lambda: listens(socket, self.pid), seconds)

    def tail(self, characters: int = _TAIL, since: int = 0) -> str:
        """The end of its log after the first `since` bytes."""
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            log.seek(max(since, self.log_size() - characters))
            return log.read(characters).decode(errors="replace")
        return ""

    def log_size(self) -> int:
        """The size of its log in bytes."""
        with contextlib.suppress(OSError):
            return self.log_path.stat().st_size
        return 0

    def stop(self, grace: float = 1.0) -> None:
        """End it: by SIGTERM first, then by SIGKILL."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
            return
        self.kill()

    def pause(self) -> None:
        """Stop it by SIGSTOP; what follows is `kill`."""
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it by SIGKILL, and wait until it has ended."""
        self._process.kill()
        self._process.wait(10)

    def inside_network(self, make: Callable[[], T]) -> T:
        """Call `make` in the process's network namespace; sockets made there stay there."""
        if not self._network:
            return make()
        found: list[T] = []
        raised: list[BaseException] = []

        def enter() -> None:
            try:
                handle = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if _libc.setns(handle, _CLONE_NEWNET):
                        number = ctypes.get_errno()
                        raise OSError(number, f"setns: {os.strerror(number)}")
                finally:
                    os.close(handle)
                found.append(make())
            except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
                raised.append(error)

        # setns changes the calling thread only; that thread ends here and takes the change with it.
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if raised:
            raise raised[0]
        return found[0]


def _resolved(directories: Sequence[Path]) -> list[bytes]:
    return [os.fsencode(path.resolve()) for path in directories]


def _child_of(
    parent: int, own_network: bool, writable: Sequence[bytes], own_mounts: Sequence[bytes], descriptors: int | None
) -> Callable[[], None]:
    def prepare() -> None:
        end_with_parent(signal.SIGKILL, parent)
        os.setsid()
        # Only the soft limit: diod raises its own again, and does not start when it cannot.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if descriptors is not None:
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(descriptors, hard), hard))
        contain(writable, own_mounts)
        if own_network:
            if _libc.unshare(_CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                _raise_loopback(any_socket)

    return prepare


def _raise_loopback(any_socket: socket.socket) -> None:
    fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
