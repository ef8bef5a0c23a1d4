"""The command `serve`: it reads the command line, composes the server, and reports a wrong argument in one line."""

from __future__ import annotations

import logging
import os
import resource
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import click

from protocol.fields import Buffer
from reference_server import framelog, identity
from reference_server.commands.ends import FAILED, Wrong, ended
from reference_server.commands.lines import Lines
from reference_server.commands.listen import DEFAULT_TCP, Listening, MakeSession
from reference_server.descriptors import Descriptors
from reference_server.exports import Export, Exports
from reference_server.handlers import OPERATIONS
from reference_server.hostfs import HostStore
from reference_server.limits import Limits, Shared
from reference_server.mapped import MappedStore, NoUserAttributes
from reference_server.outlets import Health, Observer
from reference_server.session import Session
from reference_server.shares import Commons
from reference_server.transports.admission import Door
from reference_server.virtio.patience import BUSY_POLL


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
    "--lines",
    "lines_file",
    type=click.Path(),
    metavar="FILE",
    help="Append each line of the server's source to FILE when it runs for the first time. It makes the server slow.",
)
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
    lines_file: str | None,
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
    if lines_file is not None:
        _watch_lines(lines_file)
    if len(vhost_user) != len(tags):
        raise Wrong(f"{len(vhost_user)} --vhost-user and {len(tags)} --tag: each device has one tag")
    # The client applied its own mask; ours would only take bits away that were asked for.
    os.umask(0)
    _raise_descriptor_limit()
    limits, health = Limits(lock_wait=lock_wait), Health()
    with ExitStack() as stack:
        descriptors = Descriptors()
        commons = Commons(Shared(fids=max_fids, connections=min(Shared.connections, max(descriptors.end // 16, 2))))
        offered = _open_exports(directory, exports, readonly, _store_maker(mapped, policy, descriptors))
        stack.callback(offered.close)
        observer = _observer(log_frames, record, stack)

        def sessions(own: Exports) -> MakeSession:
            return lambda: Session(own, OPERATIONS, limits, health, observer, commons)

        listening, door = Listening(stack), Door(commons.connections, descriptors)
        if unix_path is not None:
            listening.on_unix(unix_path, sessions(offered), door)
        if tcp_address is not None or not (unix_path or vhost_user):
            listening.on_tcp(tcp_address or DEFAULT_TCP, sessions(offered), door, remote=allow_remote)
        for path, tag in zip(vhost_user, tags, strict=True):
            own = sessions(offered.rooted(os.fsencode(tag)))
            listening.as_device(path, tag, own, in_band=not no_in_band, busy_poll=busy_poll / 1e6)
        listening.until_signalled()
    if health.unexpected:
        raise ended(f"{len(health.unexpected)} requests ended in an unexpected exception", FAILED)


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
        number = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        os.set_blocking(number, True)  # a pipe that nobody reads is refused, another one read as fast as it can be
        # unbuffered: the frames before a kill are the ones of interest, and a buffer would lose them
        file = stack.enter_context(os.fdopen(number, "wb", buffering=0))
        recorder = framelog.Recorder(file)
    except OSError as error:
        raise Wrong(f"cannot record to {record}: {error.strerror}") from error
    stack.callback(recorder.close)
    return _Both(printer, recorder) if printer else recorder


def _watch_lines(path: str) -> None:
    try:
        Lines(path).begin()
    except OSError as error:
        raise Wrong(f"cannot write lines to {path}: {error.strerror}") from error


def _open_exports(directory: str, more: tuple[str, ...], readonly: bool, make: Callable[[str], HostStore]) -> Exports:
    def store(path: str) -> Export:
        try:
            return Export(make(path), readonly)
        except NoUserAttributes as error:
            text = "mount it with them (user_xattr), choose another file system, or leave --mapped out"
            raise Wrong(f"cannot export {path} --mapped: {error.strerror}; {text}") from error
        except OSError as error:
            raise Wrong(f"cannot export {path}: {error.strerror}") from error

    named: dict[bytes, Export] = {}
    first = store(directory)
    named[os.fsencode(os.path.abspath(directory))] = first
    for text in more:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise Wrong(f"--export {text}: is not NAME=DIR")
        named[os.fsencode(name)] = store(path)
    return Exports(first, named)


def _store_maker(mapped: bool, policy: str, descriptors: Descriptors) -> Callable[[str], HostStore]:
    """How to open an export. Mapped ones never change identity: on the host all files belong to the server's user."""
    if mapped:
        return lambda path: MappedStore(path, descriptors)
    chosen = identity.choose(policy)
    return lambda path: HostStore(path, chosen, descriptors)


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
