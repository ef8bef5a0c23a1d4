"""Where the command `serve` listens: sockets, and devices for vhost-user front ends.

The rule of this module: an address that cannot be had is reported in one line, and what was bound is removed at the
end.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack

import click

from reference_server.commands.ends import UNAVAILABLE, Wrong, ended
from reference_server.session import Session
from reference_server.transports import tcp, unix
from reference_server.transports.admission import Door
from reference_server.transports.front_end import TAG_MAX
from reference_server.transports.stream import Listener
from reference_server.transports.vhost_user import DeviceListener
from reference_server.virtio.device import Device

DEFAULT_TCP = "127.0.0.1:5640"
_BUSY = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_REMEDY = {
    errno.ENOENT: "create its directory, or choose another path",
    errno.EEXIST: "remove it, or choose another path",
    errno.EADDRINUSE: "end that server, or choose another address",
    None: "choose one of 107 bytes at most",  # what Python raises for a path that fits no socket's address
}

MakeSession = Callable[[], Session]


class Listening:
    """The sockets and devices of a server. `stack` closes them, and removes what was bound."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._listeners: list[Listener | DeviceListener] = []

    def on_unix(self, path: str, make_session: MakeSession, door: Door) -> None:
        """Listen on a unix socket, which is its owner's."""
        self._listeners.append(Listener(self._bound(path), f"unix {path}", make_session, door))

    def on_tcp(self, address: str, make_session: MakeSession, door: Door, *, remote: bool) -> None:
        """Listen on TCP; with `remote` also where other machines can reach it."""
        sock, shown = _bind_tcp(address, remote)
        self._listeners.append(Listener(sock, f"tcp {shown}", make_session, door))

    def as_device(self, path: str, tag: str, make_session: MakeSession, *, in_band: bool, busy_poll: float) -> None:
        """Be a virtio-9p device for the front end that connects to that path."""
        if not 0 < len(os.fsencode(tag)) <= TAG_MAX:
            raise Wrong(f"--tag {tag[:40]!r}: a tag has 1 to {TAG_MAX} bytes")
        device = Device(f"vhost-user {path}", os.fsencode(tag), make_session, busy_poll)
        self._listeners.append(DeviceListener(self._bound(path), device, in_band=in_band))

    def until_signalled(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        over = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: over.set())
        for listener in self._listeners:
            try:
                listener.start()
            except OSError as error:
                raise _unavailable(listener.name, error) from error
            self._stack.callback(listener.close)
            click.echo(f"listening on {listener.name}")
        sys.stdout.flush()
        over.wait()

    def _bound(self, path: str) -> socket.socket:
        try:
            sock = unix.bind(path)
        except OSError as error:
            raise _unavailable(path, error) from error
        self._stack.callback(unix.unbind, path)
        return sock


def _unavailable(address: str, error: OSError) -> BaseException:
    text = f"cannot listen on {address}: {error.strerror or error}; {_REMEDY.get(error.errno, 'choose another')}"
    return ended(text, UNAVAILABLE) if error.errno in _BUSY else Wrong(text)


def _bind_tcp(text: str, allow_remote: bool) -> tuple[socket.socket, str]:
    try:
        host, port = tcp.parse_address(text)
        return tcp.bind(host, port, remote=allow_remote)
    except tcp.NotLoopback as error:
        raise Wrong(
            f"{error}: any client that reaches it can act as any user on the export; add --allow-remote to allow that"
        ) from error
    except ValueError as error:
        raise Wrong(f"cannot listen on {text}: it is not HOST:PORT ({error})") from error
    except OSError as error:
        raise _unavailable(text, error) from error
