"""The commands ``serve`` and ``frames``.

The rule of this module: it reads the command line, composes the parts and reports a wrong argument in one line.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import IO, Any, BinaryIO

import click

from protocol.fields import Buffer
from reference_server import framelog, identity, replay
from reference_server.descriptors import Descriptors
from reference_server.exports import Export, Exports
from reference_server.handlers import OPERATIONS
from reference_server.hostfs import HostStore
from reference_server.limits import Limits, Shared
from reference_server.mapped import MappedStore, NoUserAttributes
from reference_server.session import Health, Observer, Session
from reference_server.shares import Commons
from reference_server.transports import tcp, unix
from reference_server.transports.admission import Door
from reference_server.transports.stream import Listener
from reference_server.transports.vhost_user import TAG_MAX, DeviceListener
from reference_server.virtio.device import Device
from reference_server.virtio.patience import BUSY_POLL

DEFAULT_TCP = "127.0.0.1:5640"

FAILED = 1
"""Exit status: a request failed unexpectedly, or a replayed reply differs."""
UNAVAILABLE = 3
"""Exit status: this machine cannot do it now; the command itself is correct."""
_BUSY = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def _ended(text: str, status: int) -> SystemExit:
    click.echo(f"assay9: {text}", err=True)
    return SystemExit(status)


class _Wrong(click.ClickException):
    """The command line asks for something impossible: exit status 2, in one line."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """One line."""
        click.echo(f"assay9: {self.message}", file=file, err=file is None)


@click.command()
@click.argument("directory", type=click.Path())
@click.option("--unix", "unix_path", metavar="PATH", help="Listen on a unix socket.")
@click.option("--tcp", "tcp_address", metavar="HOST:PORT", help=f"Listen on TCP (default: {DEFAULT_TCP}).")
@click.option(
    "--vhost-user",
    "vhost_user",
    multiple=True,
    metavar="PATH",
    help="Be a virtio-9p device for a vhost-user front end at this socket (repeatable).",
)
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Its mount tag, one for each --vhost-user.")
@click.option(
    "--no-in-band",
    is_flag=True,
    help="Do not offer in-band notifications: User-Mode Linux accepts them, and they slow it down.",
)
@click.option(
    "--busy-poll",
    type=click.FloatRange(min=0),
    default=BUSY_POLL * 1e6,
    show_default=True,
    metavar="MICROSECONDS",
    help="How long a busy device polls for the next request before it sleeps.",
)
@click.option("--allow-remote", is_flag=True, help="Allow a --tcp address that other machines can reach.")
@click.option("--export", "exports", metavar="NAME=DIR", multiple=True, help="Export DIR under the aname NAME, too.")
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
@click.option("--record", type=click.Path(), metavar="FILE", help="Keep every frame in FILE (assay9 frames FILE).")
@click.option(
    "--lock-wait",
    type=click.FloatRange(min=0),
    default=Limits.lock_wait,
    show_default=True,
    metavar="SECONDS",
    help="How long a blocking Tlock waits before LOCK_BLOCKED.",
)
@click.option(
    "--max-fids",
    type=click.IntRange(min=2),
    default=Shared.fids,
    show_default=True,
    metavar="N",
    help="The maximum number of fids of all clients; one client gets at most as many as it leaves to the others.",
)
def serve(
    directory: str,
    unix_path: str | None,
    tcp_address: str | None,
    vhost_user: tuple[str, ...],
    tags: tuple[str, ...],
    no_in_band: bool,
    busy_poll: float,
    allow_remote: bool,
    exports: tuple[str, ...],
    mapped: bool,
    readonly: bool,
    policy: str,
    log_frames: bool,
    record: str | None,
    lock_wait: float,
    max_fids: int,
) -> None:
    """Serve DIRECTORY over 9P2000.L until interrupted.

    \b
    assay9 serve /srv/share                        on 127.0.0.1:5640
    assay9 serve /srv/share --unix /run/share.sock
    assay9 serve /srv/share --export more=/srv/more --readonly
    assay9 serve ~/share --mapped                  as an ordinary user: the guest's owners, modes and
                                                   devices are kept in extended attributes
    assay9 serve /srv/share --record r.9p          then: assay9 frames r.9p
    assay9 serve /srv/share --vhost-user /run/share.vhost --tag share0
                                                   a virtio-9p device; docs/device-model.md has QEMU's
                                                   and User-Mode Linux's command lines. A tag that is the
                                                   NAME of an --export is a device of that directory.

    \b
    Mount it in Linux:
    mount -t 9p -o trans=tcp,port=5640,version=9p2000.L,aname=/ 127.0.0.1 /mnt
    mount -t 9p -o trans=unix,version=9p2000.L,aname=/ /run/share.sock /mnt
    From a QEMU guest with user networking the host is 10.0.2.2; aname chooses the export.

    A client that connects can act as any user: listen where only trusted clients connect. TCP is therefore loopback
    only unless --allow-remote is given, and a unix socket is its owner's (mode 0600).

    Exit status: 0 interrupted, 1 a request raised an exception that the server did not expect, 2 usage, 3 the address
    is in use or the machine is out of a resource.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    limits = Limits(lock_wait=lock_wait)
    # The client applied its own mask; ours would only take bits away that were asked for.
    os.umask(0)
    _raise_descriptor_limit()
    with ExitStack() as stack:
        descriptors = Descriptors()
        commons = Commons(Shared(fids=max_fids, connections=min(Shared.connections, max(descriptors.end // 16, 2))))
        offered = _open_exports(directory, exports, readonly, _store_maker(mapped, policy, descriptors))
        stack.callback(offered.close)
        health = Health()

        observer = _observer(log_frames, record, stack)

        def sessions(own: Exports) -> MakeSession:
            return lambda: Session(own, OPERATIONS, limits, health, observer, commons)

        listeners: list[Listener | DeviceListener] = []
        if not vhost_user or unix_path is not None or tcp_address is not None:
            door = Door(commons.connections, descriptors)
            listeners += _listen(unix_path, tcp_address, allow_remote, sessions(offered), door, stack)
        devices = {tag: sessions(offered.rooted(os.fsencode(tag))) for tag in tags}
        listeners += _devices(vhost_user, tags, devices, stack, in_band=not no_in_band, busy_poll=busy_poll / 1e6)
        _until_signalled(listeners, stack)
    if health.unexpected:
        raise _ended(f"{len(health.unexpected)} requests ended in an unexpected exception", FAILED)


MakeSession = Callable[[], Session]


def _until_signalled(listeners: Sequence[Listener | DeviceListener], stack: ExitStack) -> None:
    """Listen until SIGINT or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    for listener in listeners:
        try:
            listener.start()
        except OSError as error:
            raise _unavailable(listener.name, error) from error
        stack.callback(listener.close)
        click.echo(f"listening on {listener.name}")
    sys.stdout.flush()
    ended.wait()


_REMEDY = {
    errno.ENOENT: "create its directory, or choose another path",
    errno.EEXIST: "remove it, or choose another path",
    errno.EADDRINUSE: "end that server, or choose another address",
    None: "choose one of 107 bytes at most",  # what Python raises for a path that fits no socket's address
}


def _unavailable(address: str, error: OSError) -> BaseException:
    text = f"cannot listen on {address}: {error.strerror or error}; {_REMEDY.get(error.errno, 'choose another')}"
    return _ended(text, UNAVAILABLE) if error.errno in _BUSY else _Wrong(text)


class _Both:
    """An observer that passes everything to two others."""

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
        # Not with the umask of the exports: only the owner may read the traffic.
        number = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        # unbuffered: the frames before a kill are the ones of interest, and a buffer would lose them
        file = stack.enter_context(os.fdopen(number, "wb", buffering=0))
        recorder = framelog.Recorder(file)
    except OSError as error:
        raise _Wrong(f"cannot record to {record}: {error.strerror}") from error
    stack.callback(recorder.close)
    return _Both(printer, recorder) if printer else recorder


def _open_exports(directory: str, more: tuple[str, ...], readonly: bool, make: Callable[[str], HostStore]) -> Exports:
    def store(path: str) -> Export:
        try:
            return Export(make(path), readonly)
        except NoUserAttributes as error:
            text = "mount it with them (user_xattr), choose another file system, or leave --mapped out"
            raise _Wrong(f"cannot export {path} --mapped: {error.strerror}; {text}") from error
        except OSError as error:
            raise _Wrong(f"cannot export {path}: {error.strerror}") from error

    named: dict[bytes, Export] = {}
    first = store(directory)
    named[os.fsencode(os.path.abspath(directory))] = first
    for text in more:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise _Wrong(f"--export {text}: is not NAME=DIR")
        named[os.fsencode(name)] = store(path)
    return Exports(first, named)


def _store_maker(mapped: bool, policy: str, descriptors: Descriptors) -> Callable[[str], HostStore]:
    """How to open an export. Mapped ones never change identity: on the host all files belong to the server's user."""
    if mapped:
        return lambda path: MappedStore(path, descriptors)
    chosen = identity.choose(policy)
    return lambda path: HostStore(path, chosen, descriptors)


def _listen(
    unix_path: str | None,
    tcp_address: str | None,
    allow_remote: bool,
    make_session: MakeSession,
    door: Door,
    stack: ExitStack,
) -> list[Listener]:
    listeners: list[Listener] = []
    if unix_path is not None:
        try:
            listeners.append(Listener(unix.bind(unix_path), f"unix {unix_path}", make_session, door))
        except OSError as error:
            raise _unavailable(unix_path, error) from error
        stack.callback(unix.unbind, unix_path)
    if tcp_address is not None or unix_path is None:
        sock, shown = _bind_tcp(tcp_address or DEFAULT_TCP, allow_remote)
        listeners.append(Listener(sock, f"tcp {shown}", make_session, door))
    return listeners


def _devices(
    paths: tuple[str, ...],
    tags: tuple[str, ...],
    sessions: Mapping[str, MakeSession],
    stack: ExitStack,
    *,
    in_band: bool,
    busy_poll: float,
) -> list[DeviceListener]:
    if len(paths) != len(tags):
        raise _Wrong(f"{len(paths)} --vhost-user and {len(tags)} --tag: each device has one tag")
    made: list[DeviceListener] = []
    for path, tag in zip(paths, tags, strict=True):
        if not 0 < len(os.fsencode(tag)) <= TAG_MAX:
            raise _Wrong(f"--tag {tag[:40]!r}: a tag has 1 to {TAG_MAX} bytes")
        try:
            sock = unix.bind(path)
        except OSError as error:
            raise _unavailable(path, error) from error
        stack.callback(unix.unbind, path)
        device = Device(f"vhost-user {path}", os.fsencode(tag), sessions[tag], busy_poll)
        made.append(DeviceListener(sock, device, in_band=in_band))
    return made


def _bind_tcp(text: str, allow_remote: bool) -> tuple[socket.socket, str]:
    try:
        host, port = tcp.parse_address(text)
        return tcp.bind(host, port, remote=allow_remote)
    except tcp.NotLoopback as error:
        raise _Wrong(
            f"{error}: any client that reaches it can act as any user on the export; add --allow-remote to allow that"
        ) from error
    except ValueError as error:
        raise _Wrong(f"cannot listen on {text}: it is not HOST:PORT ({error})") from error
    except OSError as error:
        raise _unavailable(text, error) from error


def _raise_descriptor_limit() -> None:
    """With more descriptors, fewer must be closed and reopened: allow as many as the process may have, and for root as
    many as the kernel allows, up to Shared.descriptors.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if os.geteuid() == 0 and hard < Shared.descriptors:
        try:
            with open("/proc/sys/fs/nr_open", encoding="ascii") as file:
                most = min(int(file.read()), Shared.descriptors)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            return
        except (OSError, ValueError):
            logging.getLogger("reference_server").debug("descriptor limit stays %d", hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, Shared.descriptors), hard))


@click.command()
@click.argument("record", type=click.Path())
@click.option("--replay", "address", metavar="ADDRESS", help="Send the requests again to HOST:PORT or a socket path.")
@click.option("--timeout", type=float, default=10.0, show_default=True, metavar="SECONDS")
def frames(record: str, address: str | None, timeout: float) -> None:
    """Print RECORD, one line for each exchange; or send its requests again and print what differs.

    \b
    assay9 serve DIR --record r.9p                 keeps every frame, malformed ones included
    assay9 frames r.9p                             prints them as strace does
    assay9 frames r.9p --replay 127.0.0.1:5640     sends the same requests to another server

    A line is: seconds since the record began, session, request = reply. In a replay, two replies agree when they have
    the same type and, if they are errors, the same errno: qids and times may differ in another tree. A record that is
    still being written, or whose server was killed, is read up to its last whole frame.

    Exit status: 0 printed, or nothing differs; 1 something differs; 2 usage; 3 no server answers at ADDRESS.
    """
    try:
        with open(record, "rb") as file:
            differences = _frames(file, address, timeout)
    except framelog.NotARecord as error:
        raise _Wrong(f"{record}: {error}") from error
    except BrokenPipeError:
        if address is None:  # the reader closed the pipe, as `| head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        raise _ended(f"{address}: hung up", UNAVAILABLE) from None
    except OSError as error:
        if error.filename == record:
            raise _Wrong(f"{record}: {error.strerror}") from error
        raise _ended(f"{address}: {error.strerror or error}", UNAVAILABLE) from error
    if differences:
        raise _ended(f"{differences} replies differ", FAILED)


def _frames(record: BinaryIO, address: str | None, timeout: float) -> int:
    """Print or replay; returns how many replies differ."""
    if address is None:
        lines = framelog.Lines()
        for one in _whole(record):
            for line in lines.feed(one):
                click.echo(line)
        for line in lines.rest():
            click.echo(line)
        return 0
    differences = 0
    for difference in replay.replay(_whole(record), lambda: _connect(address, timeout)):
        differences += 1
        again = framelog.describe(difference.replayed) if difference.replayed else "(no reply)"
        click.echo(
            f"{difference.at:12.6f} {difference.session:3d} {framelog.describe(difference.request)}"
            f" = {framelog.describe(difference.recorded)}, now {again}"
        )
    return differences


def _whole(record: BinaryIO) -> Iterator[framelog.Record]:
    """Every whole frame of a record; a partial frame at its end is reported and is not an error."""
    try:
        yield from framelog.read(record)
    except framelog.EndsWithinFrame as error:
        why = "it is still being written, or its server was killed"
        click.echo(f"{record.name} ends within a frame ({error}): {why}", err=True)


def _connect(address: str, timeout: float) -> socket.socket:
    if "/" in address:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        sock.connect(address)
        return sock
    try:
        return socket.create_connection(tcp.parse_address(address), timeout)
    except ValueError as error:
        raise _Wrong(f"--replay {address}: it is neither HOST:PORT nor a path ({error})") from error


@click.group()
def main() -> None:
    """The reference 9P2000.L server."""


main.add_command(serve)
main.add_command(frames)
