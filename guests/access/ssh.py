"""A shell on another machine over SSH (paramiko); for guests of our images, with the image's keys on both sides."""

from __future__ import annotations

import base64
import contextlib
import logging
import shlex
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import paramiko

from guests.access.shell import Result, Shell
from guests.errors import InfrastructureError
from guests.host.lines import LineChannel, LineReader
from guests.host.waiting import happens

# It logs a thread's traceback for every failed connection, even to a guest that is still booting.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class SshShell(Shell):
    """One SSH connection."""

    def __init__(self, transport: paramiko.Transport, where: str, owners: Sequence[paramiko.SSHClient] = ()) -> None:
        """Use an authenticated ``transport``; ``where`` names the machine in messages.

        ``owners``: its client and those of its jump hosts, which are closed with it.
        """
        self.where = where
        self._transport = transport
        self._owners = owners

    @property
    def alive(self) -> bool:
        """The connection is up, as far as this side knows."""
        return self._transport.is_active()

    def run(self, argv: Sequence[str] | str, timeout: float = 60.0, stdin: bytes = b"") -> Result:
        deadline = time.monotonic() + timeout
        channel = self._exec(argv, timeout)
        try:
            out, err = _exchange(channel, stdin, deadline, argv)
            status = channel.recv_exit_status()
            if status == -1 and self._lost():
                raise InfrastructureError(
                    f"the SSH connection to {self.where} was lost during {_shown(argv)}",
                    "check the network, and whether the machine still runs",
                )
        finally:
            channel.close()
        return Result(status, _text(out), _text(err))

    def open_channel(self, argv: Sequence[str] | str) -> LineChannel:
        return SshLineChannel(self._exec(argv, 30.0))

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._transport.close()
        for owner in self._owners:
            with contextlib.suppress(Exception):
                owner.close()

    def _lost(self) -> bool:
        """Whether a missing exit status is due to a lost connection, not to a signal that killed the command.

        paramiko closes the channels of a lost connection a moment before it reports the loss.
        """
        return happens(lambda: not self.alive, 1.0, 0.02)

    def _exec(self, argv: Sequence[str] | str, timeout: float) -> paramiko.Channel:
        command = argv if isinstance(argv, str) else shlex.join(argv)
        # exec_command waits for the guest's answer without a limit: closing the connection ends that. open_session has
        # its own limit, which must differ: otherwise the error would depend on which ended first.
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self.close()

        timer = threading.Timer(timeout, expire)
        timer.start()
        try:
            channel = self._transport.open_session()
            channel.exec_command(command)
        except (paramiko.SSHException, OSError, EOFError) as error:
            if expired.is_set():
                raise TimeoutError(f"{self.where} did not start {_shown(argv)} within {timeout:g} s") from error
            raise InfrastructureError(f"the SSH connection to {self.where} is lost: {error or 'closed'}") from error
        finally:
            timer.cancel()
        return channel


def image_shell(
    port: int, key: Path, known_host: Path, limit: float = 30.0, connection: socket.socket | None = None
) -> SshShell:
    """A shell as root in a guest of one of the suite's images: at 127.0.0.1:``port``, or over a ``connection`` to it.

    ``key``: our private key; ``known_host``: the guest's public one. Raises InfrastructureError.
    """
    where = f"127.0.0.1:{port}"
    kind, blob = known_host.read_text(encoding="ascii").split()[:2]
    expected = paramiko.Ed25519Key(data=base64.b64decode(blob))
    assert kind == "ssh-ed25519"
    transport: paramiko.Transport | None = None
    try:
        if connection is None:
            connection = socket.create_connection(("127.0.0.1", port), timeout=limit)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(connection)
        transport.banner_timeout = transport.auth_timeout = transport.handshake_timeout = limit
        transport.start_client(timeout=limit)
        if transport.get_remote_server_key() != expected:
            raise InfrastructureError(
                f"{where} shows another SSH host key than this image's",
                "another program has the port, or the snapshot is of another image: `assay9 guest clean`",
            )
        transport.auth_publickey("root", paramiko.Ed25519Key.from_private_key_file(str(key)))
    except BaseException as error:
        for one in (transport, connection):
            if one is not None:
                one.close()
        if isinstance(error, paramiko.AuthenticationException):
            raise InfrastructureError(
                f"the guest refused the key {key}",
                "image and snapshot do not belong together: `assay9 guest clean`, then run again",
            ) from error
        if isinstance(error, paramiko.SSHException | OSError | EOFError):
            raise InfrastructureError(
                f"SSH to {where} failed: {error or type(error).__name__}",
                "look at the console log of the run; `assay9 guest console` logs in there",
            ) from error
        raise
    return SshShell(transport, f"the guest at {where}")


def _shown(argv: Sequence[str] | str) -> str:
    """A command as shown in messages: short, on one line."""
    text = " ".join((argv if isinstance(argv, str) else shlex.join(argv)).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _exchange(
    channel: paramiko.Channel, stdin: bytes, deadline: float, argv: Sequence[str] | str
) -> tuple[bytes, bytes]:
    """Feed standard input and collect both outputs until the command ends."""
    out, err = bytearray(), bytearray()
    waiting = memoryview(stdin)
    channel.setblocking(False)
    sent_all = False
    while True:
        moved = False
        if waiting and channel.send_ready():
            waiting = waiting[channel.send(bytes(waiting[:32768])) :]
            moved = True
        elif not waiting and not sent_all:
            channel.shutdown_write()
            sent_all = True
        while channel.recv_ready():
            out += channel.recv(1 << 20)
            moved = True
        while channel.recv_stderr_ready():
            err += channel.recv_stderr(1 << 20)
            moved = True
        if channel.exit_status_ready() and channel.eof_received and not moved:
            return bytes(out), bytes(err)
        if channel.closed and not moved:
            return bytes(out), bytes(err)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{_shown(argv)} ran into its time limit")
        if not moved:
            time.sleep(0.002)


class SshLineChannel(LineReader):
    """A program in the guest over one SSH channel."""

    def __init__(self, channel: paramiko.Channel) -> None:
        super().__init__()
        self._channel = channel

    def send(self, data: bytes) -> None:
        try:
            self._channel.settimeout(60.0)
            self._channel.sendall(data)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise InfrastructureError(f"the channel is gone: {error or 'closed'}") from error

    def _receive(self, timeout: float) -> bytes:
        self._channel.settimeout(timeout)
        return self._channel.recv(1 << 18)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._channel.close()

    def _ended(self) -> InfrastructureError:
        said = b""
        while self._channel.recv_stderr_ready():
            said += self._channel.recv_stderr(65536)
        lines = said.decode("utf-8", "replace").strip().splitlines()
        return InfrastructureError(f"the program at the other end ended{f': {lines[-1]}' if lines else ''}")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
