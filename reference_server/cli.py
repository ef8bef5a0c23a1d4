"""The commands ``serve`` and ``frames``.

The rule of this module: it reads the command line, puts the parts together and says in one line what is wrong
with what it was given.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack

import click

from reference_server import identity
from reference_server.exports import Export, Exports
from reference_server.handlers import OPERATIONS
from reference_server.hostfs import HostStore
from reference_server.limits import Limits
from reference_server.mapped import MappedStore
from reference_server.session import Health, Session
from reference_server.transports import tcp, unix
from reference_server.transports.stream import Listener

DEFAULT_TCP = "127.0.0.1:5640"


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option("--unix", "unix_path", metavar="PATH", help="Listen on a unix socket.")
@click.option("--tcp", "tcp_address", metavar="HOST:PORT", help=f"Listen on TCP (default: {DEFAULT_TCP}).")
@click.option("--allow-remote", is_flag=True, help="Let --tcp be an address beyond this machine.")
@click.option("--export", "exports", metavar="NAME=DIR", multiple=True, help="Offer DIR as aname NAME as well.")
@click.option("--mapped", is_flag=True, help="Keep owners, modes and special files in extended attributes.")
@click.option("--readonly", is_flag=True, help="Refuse every change with EROFS.")
@click.option(
    "--identity",
    "policy",
    type=click.Choice(identity.POLICIES),
    default="client",
    show_default=True,
    help="Whose permission checks count when run as root.",
)
@click.option("--lock-wait", type=float, default=Limits.lock_wait, show_default=True, metavar="SECONDS")
def serve(
    directory: str,
    unix_path: str | None,
    tcp_address: str | None,
    allow_remote: bool,
    exports: tuple[str, ...],
    mapped: bool,
    readonly: bool,
    policy: str,
    lock_wait: float,
) -> None:
    """Serve DIRECTORY over 9P2000.L until interrupted.

    Whoever can connect can act as any user: listen where only those can who may.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    limits = Limits(lock_wait=lock_wait)
    # The client applied its own mask; ours would only take bits away that were asked for.
    os.umask(0)
    _raise_descriptor_limit()
    with ExitStack() as stack:
        offered = _open_exports(directory, exports, readonly, _store_maker(mapped, policy))
        stack.callback(offered.close)
        health = Health()

        def make_session() -> Session:
            return Session(offered, OPERATIONS, limits, health)

        listeners = _listen(unix_path, tcp_address, allow_remote, make_session, stack)
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        for listener in listeners:
            listener.start()
            stack.callback(listener.close)
            click.echo(f"listening on {listener.name}")
        sys.stdout.flush()
        ended.wait()
    if health.unexpected:
        raise click.ClickException(f"{len(health.unexpected)} requests ended in an unexpected exception")


def _open_exports(directory: str, more: tuple[str, ...], readonly: bool, make: Callable[[str], HostStore]) -> Exports:
    def store(path: str) -> Export:
        try:
            return Export(make(path), readonly)
        except OSError as error:
            raise click.ClickException(f"cannot export {path}: {error.strerror}") from error

    named: dict[bytes, Export] = {}
    first = store(directory)
    named[os.fsencode(os.path.abspath(directory))] = first
    for text in more:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise click.BadParameter(f"{text!r} is not NAME=DIR", param_hint="--export")
        named[os.fsencode(name)] = store(path)
    return Exports(first, named)


def _store_maker(mapped: bool, policy: str) -> Callable[[str], HostStore]:
    """How to open an export.  Mapped ones never change identity: on the host everything is the server's own.
    """
    if mapped:
        return MappedStore
    chosen = identity.choose(policy)
    return lambda path: HostStore(path, chosen)


def _listen(
    unix_path: str | None,
    tcp_address: str | None,
    allow_remote: bool,
    make_session: Callable[[], Session],
    stack: ExitStack,
) -> list[Listener]:
    listeners: list[Listener] = []
    if unix_path is not None:
        try:
            listeners.append(Listener(unix.bind(unix_path), f"unix {unix_path}", make_session))
        except OSError as error:
            raise click.ClickException(f"cannot listen on {unix_path}: {error.strerror or error}") from error
        stack.callback(unix.unbind, unix_path)
    if tcp_address is not None or unix_path is None:
        sock, shown = _bind_tcp(tcp_address or DEFAULT_TCP, allow_remote)
        listeners.append(Listener(sock, f"tcp {shown}", make_session))
    return listeners


def _bind_tcp(text: str, allow_remote: bool) -> tuple[socket.socket, str]:
    try:
        host, port = tcp.parse_address(text)
        return tcp.bind(host, port, remote=allow_remote)
    except tcp.NotLoopback as error:
        raise click.ClickException(
            f"{error}: whoever reaches it could act as any user on the export; give --allow-remote if that is meant"
        ) from error
    except (OSError, ValueError) as error:
        raise click.ClickException(f"cannot listen on {text}: {error}") from error


def _raise_descriptor_limit() -> None:
    """A fid takes a descriptor: allow as many as the process may have, and as root as the kernel has."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if os.geteuid() == 0:
        try:
            with open("/proc/sys/fs/nr_open", encoding="ascii") as file:
                most = int(file.read())
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            return
        except (OSError, ValueError):
            logging.getLogger("reference_server").debug("descriptor limit stays %d", hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@click.group()
def main() -> None:
    """The reference 9P2000.L server."""


main.add_command(serve)
