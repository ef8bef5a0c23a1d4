"""One client never uses up the resources of the others; rejected clients cost an occasional log line."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from protocol import constants as c
from protocol import messages as m
from reference_server.shares import Pot
from reference_server.transports.admission import Door, Sparing
from tests.reference_server.served import serving


def test_a_share_is_as_much_as_is_left() -> None:
    pot = Pot(1000, threading.Lock())
    held = []
    for _client in range(8):
        share = pot.share()
        while share.take():
            pass
        held.append(share.held)
    assert held == [500, 250, 125, 62, 31, 16, 8, 4]
    share.give(4)
    assert pot.left == 1000 - sum(held[:-1])


def test_a_small_client_gets_something_while_large_ones_hold_much() -> None:
    pot = Pot(100, threading.Lock())
    large, small = pot.share(), pot.share()
    while large.take():
        pass
    assert all(small.take() for _ in range(20))
    assert not large.take()


def test_one_line_for_many(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    sparing = Sparing(10.0, lambda: now)
    with caplog.at_level(logging.WARNING, "reference_server"):
        for second in range(25):
            now = float(second)
            sparing.warn("refused")
        sparing.close()
    ours = threading.get_ident()  # threads of earlier tests' servers may still log something
    assert [record.message for record in caplog.records if record.thread == ours] == [
        "refused",
        "refused (and 9 more in 10 s)",
        "refused (and 9 more in 10 s)",
        "the last line was left out 4 more times",
    ]


def test_the_door_counts_by_origin() -> None:
    pot = Pot(10, threading.Lock())
    door = Door(pot)
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(6)]
        for pair in pairs:
            for sock in pair:
                stack.callback(sock.close)
        inside = [door.enter(pair[0]) for pair in pairs[:5]]
        for sock, _origin in inside:
            stack.callback(sock.close)
        with pytest.raises(OSError, match=f"process {os.getpid()} has 5 connections, and 5 are left for all others"):
            door.enter(pairs[5][0])
        for _sock, origin in inside:
            door.leave(origin)
    assert pot.left == 10
    assert not door._shares


# --- a server of its own, with few descriptors ------------------------------------------------------------

LIMIT = 512
FILES = 1500


def test_a_greedy_client_leaves_room_for_others(folder: Path) -> None:
    """It has a fid for every name and opens all it can; the others attach, browse, open and lock as before."""
    for number in range(FILES):
        (folder / f"f{number}").write_text(str(number))
    with serving(folder, LIMIT) as served:
        greedy = served.connect().begin()
        for number in range(FILES):
            greedy.ok(m.Twalk(1, 0, 100 + number, (b"f%d" % number,)), m.Rwalk)
        opened = 0
        for number in range(FILES):
            greedy.send(m.Tlopen(1, 100 + number, c.O_RDWR))
            reply = greedy.receive()
            if isinstance(reply, m.Rlerror):
                assert reply.ecode == c.ENFILE
                break
            opened += 1
        assert LIMIT // 6 < opened < LIMIT // 4
        for _ in range(5):
            other = served.connect().begin()
            for number in range(FILES):
                other.ok(m.Twalk(1, 0, 100 + number, (b"f%d" % number,)), m.Rwalk)
            for number in range(3):
                other.ok(m.Tlopen(1, 100 + number, c.O_RDWR), m.Rlopen)
            assert other.ok(m.Tlock(1, 100, c.LOCK_TYPE_RDLCK, 0, 0, 0, 1, b""), m.Rlock).status == c.LOCK_SUCCESS
        for number in range(0, FILES, 7):
            assert greedy.ok(m.Tgetattr(1, 100 + number, c.GETATTR_ALL), m.Rgetattr).size == len(str(number))
        assert served.descriptors() < LIMIT
        assert not served.log()


def test_more_peers_than_may_come_in(folder: Path) -> None:
    """They are rejected at once, with one log line, and connected clients are served."""
    (folder / "f").touch()
    with serving(folder, LIMIT) as served:
        wire, begun = served.connect().begin(), time.monotonic()
        refused = sum(not served.try_to_connect() for _ in range(300))
        assert 250 < refused < 300
        wire.ok(m.Twalk(1, 0, 7, (b"f",)), m.Rwalk)
        lines = served.log()
        assert 1 <= len(lines) <= 2 + (time.monotonic() - begun) / 10, lines
        assert "a peer was turned away: process" in lines[0]
        assert "connections, and" in lines[0]


def test_max_fids(folder: Path) -> None:
    with serving(folder, LIMIT, "--max-fids", "1000") as served:
        wire = served.connect().begin()
        for number in range(499):
            wire.ok(m.Twalk(1, 0, 100 + number, ()), m.Rwalk)
        wire.send(m.Twalk(1, 0, 99, ()))
        assert wire.receive() == m.Rlerror(1, c.ENFILE)
        other = served.connect().begin()
        for number in range(200):
            other.ok(m.Twalk(1, 0, 100 + number, ()), m.Rwalk)
