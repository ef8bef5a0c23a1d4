"""The command `frames`: print a record of frames, or send its requests to another server."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from typing import BinaryIO

import click

from reference_server import framelog, replay
from reference_server.commands.ends import FAILED, UNAVAILABLE, Wrong, ended
from reference_server.transports import tcp


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
        # to open a pipe that nobody writes to would wait for ever
        with open(record, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            os.set_blocking(file.fileno(), True)
            differences = _frames(file, address, timeout)
    except framelog.NotARecord as error:
        raise Wrong(f"{record}: {error}") from error
    except BrokenPipeError:
        if address is None:  # the reader closed the pipe, as `| head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        raise ended(f"{address}: hung up", UNAVAILABLE) from None
    except OSError as error:
        if error.filename == record:
            raise Wrong(f"{record}: {error.strerror}") from error
        raise ended(f"{address}: {error.strerror or error}", UNAVAILABLE) from error
    if differences:
        raise ended(f"{differences} replies differ", FAILED)


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
        raise Wrong(f"--replay {address}: it is neither HOST:PORT nor a path ({error})") from error
