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
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import BinaryIO

import click

from protocol.fields import Buffer
from reference_server import framelog, identity, replay
from reference_server.exports import Export, Exports
from reference_server.handlers import OPERATIONS
from reference_server.hostfs import HostStore
from reference_server.limits import Limits
from reference_server.mapped import MappedStore
from reference_server.session import Health, Observer, Session
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
@click.option("--log-frames", is_flag=True, help="Print a line for each exchange to standard error.")
@click.option("--record", type=click.Path(dir_okay=False, writable=True), help="Keep every frame in this file.")
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
    log_frames: bool,
    record: str | None,
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

        observer = _observer(log_frames, record, stack)

        def make_session() -> Session:
            return Session(offered, OPERATIONS, limits, health, observer)

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


class _Both:
    """Two observers in one."""

    def __init__(self, one: Observer, two: Observer) -> None:
        self._observers = (one, two)

    def received(self, session: int, frame: Buffer) -> None:
        for observer in self._observers:
            observer.received(session, frame)

    def sent(self, session: int, frame: Sequence[Buffer]) -> None:
        for observer in self._observers:
            observer.sent(session, frame)


def _observer(log_frames: bool, record: str | None, stack: ExitStack) -> Observer | None:
    printer = framelog.Printer(lambda line: click.echo(line, err=True)) if log_frames else None
    if record is None:
        return printer
    try:
        # Not with the umask of the exports: what crossed is nobody else's to read.
        number = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        file = stack.enter_context(os.fdopen(number, "wb"))
    except OSError as error:
        raise click.ClickException(f"cannot record to {record}: {error.strerror}") from error
    recorder = framelog.Recorder(file)
    stack.callback(recorder.close)
    return _Both(printer, recorder) if printer else recorder


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
    """How to open an export.  Mapped ones never change identity: on the host everything is the server's own."""
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


@click.command()
@click.argument("record", type=click.File("rb"))
@click.option("--replay", "address", metavar="ADDRESS", help="Send them again to HOST:PORT or a socket's path.")
@click.option("--timeout", type=float, default=10.0, show_default=True, metavar="SECONDS")
def frames(record: BinaryIO, address: str | None, timeout: float) -> None:
    """Print what is in RECORD (serve --record), a line for each exchange; or send it again and print what
    differs.
    """
    try:
        if address is None:
            lines = framelog.Lines()
            for one in framelog.read(record):
                for line in lines.feed(one):
                    click.echo(line)
            for line in lines.rest():
                click.echo(line)
            return
        differences = 0
        for difference in replay.replay(framelog.read(record), lambda: _connect(address, timeout)):
            differences += 1
            again = framelog.describe(difference.replayed) if difference.replayed else "(no reply)"
            click.echo(
                f"{difference.at:12.6f} {difference.session:3d} {framelog.describe(difference.request)}"
                f" = {framelog.describe(difference.recorded)}, now {again}"
            )
    except (framelog.NotARecord, OSError) as error:
        raise click.ClickException(str(error)) from error
    if differences:
        raise click.ClickException(f"{differences} replies differ")


def _connect(address: str, timeout: float) -> socket.socket:
    if "/" in address:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        sock.connect(address)
        return sock
    return socket.create_connection(tcp.parse_address(address), timeout)


@click.group()
def main() -> None:
    """The reference 9P2000.L server."""


main.add_command(serve)
main.add_command(frames)
