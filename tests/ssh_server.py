"""An SSH server in this process on a free port: it runs commands on this machine and forwards connections."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko


@dataclass
class SshServer:
    """A server with its own host key and one user key, and the client's configuration for it."""

    directory: Path
    alias: str = "machine"
    user: str = "root"
    port: int = 0
    known: bool = True
    slow_login: float = 0.0
    """Seconds that checking a key takes."""
    more: str = ""
    """Further lines of the client's configuration for the alias."""
    commands: list[str] = field(default_factory=list)
    forwarded: list[tuple[str, int]] = field(default_factory=list)
    transports: list[paramiko.Transport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.host_key, self.user_key = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()
        self.key_file = self.directory / f"id-{self.alias}"
        self.user_key.write_private_key_file(str(self.key_file))
        self.known_hosts = self.directory / "known_hosts"

    def config(self) -> str:
        """The client's configuration: `ssh -F FILE alias`."""
        return (
            f"Host {self.alias}\n  HostName 127.0.0.1\n  Port {self.port}\n  User {self.user}\n"
            f"  IdentityFile {self.key_file}\n  IdentityAgent none\n  UserKnownHostsFile {self.known_hosts}\n"
            f"  GlobalKnownHostsFile none\n{self.more}\n"
        )

    def known_line(self) -> str:
        return f"[127.0.0.1]:{self.port} {self.host_key.get_name()} {self.host_key.get_base64()}\n"

    def cut(self) -> None:
        """End every connection, as a failing network does."""
        transports, self.transports = self.transports, []
        for transport in transports:
            transport.sock.close()

    @contextlib.contextmanager
    def running(self) -> Iterator[SshServer]:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        with self.known_hosts.open("a") as file:
            file.write(self.known_line() if self.known else "")
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        try:
            yield self
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            self.cut()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = _Transport(connection)
            transport.add_server_key(self.host_key)
            self.transports.append(transport)
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(event=threading.Event(), server=_Session(self))
                threading.Thread(target=_drain, args=(transport,), daemon=True).start()


class _Transport(paramiko.Transport):
    """A transport that starts a command only after the client has the reply to its request.

    Otherwise a quick command would end, and its channel would close, before the reply is sent.
    """

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.requested: list[threading.Thread] = []

    def _send_user_message(self, data: paramiko.Message) -> None:
        super()._send_user_message(data)  # type: ignore[misc]
        if threading.current_thread() is self:  # requests are answered by the transport's own thread
            while self.requested:
                self.requested.pop(0).start()


def _drain(transport: paramiko.Transport) -> None:
    """Accept the channels that are opened, as paramiko requires."""
    kept = []  # paramiko closes a channel without a reference
    while transport.is_active():
        kept.append(transport.accept(1.0))


class _Session(paramiko.ServerInterface):
    def __init__(self, server: SshServer) -> None:
        self._server = server
        self._targets: dict[int, tuple[str, int]] = {}

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        time.sleep(self._server.slow_login)
        right = username == self._server.user and key == self._server.user_key
        return paramiko.common.AUTH_SUCCESSFUL if right else paramiko.common.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        self._server.forwarded.append(destination)
        self._targets[chanid] = destination
        threading.Thread(target=self._forward, args=(chanid, destination), daemon=True).start()
        return paramiko.common.OPEN_SUCCEEDED

    def _channel(self, chanid: int) -> paramiko.Channel:
        while True:
            for transport in self._server.transports:
                channel = transport._channels.get(chanid)  # type: ignore[attr-defined]
                if channel is not None and transport.server_object is self:
                    return channel  # type: ignore[no-any-return]
            threading.Event().wait(0.005)

    def _forward(self, chanid: int, destination: tuple[str, int]) -> None:
        channel, far = self._channel(chanid), socket.create_connection(destination)
        threading.Thread(target=_copy, args=(far.recv, channel.sendall, channel.close), daemon=True).start()
        _copy(channel.recv, far.sendall, far.close)

    def check_channel_pty_request(self, channel: paramiko.Channel, *_: object) -> bool:
        return True  # as far as the client knows: the command has pipes

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._server.commands.append(command.decode())
        transport = channel.get_transport()
        assert isinstance(transport, _Transport)
        transport.requested.append(threading.Thread(target=_run, args=(channel, command.decode()), daemon=True))
        return True


def _copy(take: object, give: object, end: object) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := take(1 << 16):  # type: ignore[operator]
            give(data)  # type: ignore[operator]
    end()  # type: ignore[operator]


def _run(channel: paramiko.Channel, command: str) -> None:
    program = subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    assert program.stdin is not None and program.stdout is not None and program.stderr is not None
    pumps = [
        threading.Thread(target=_copy, args=(channel.recv, program.stdin.write, program.stdin.close), daemon=True),
        threading.Thread(target=_copy, args=(program.stdout.read, channel.sendall, lambda: None), daemon=True),
        threading.Thread(target=_copy, args=(program.stderr.read, channel.sendall_stderr, lambda: None), daemon=True),
    ]
    for pump in pumps:
        pump.start()
    status = program.wait()
    for pump in pumps[1:]:
        pump.join()
    with contextlib.suppress(OSError, EOFError):
        channel.send_exit_status(status if status >= 0 else 128 - status)
        channel.close()
