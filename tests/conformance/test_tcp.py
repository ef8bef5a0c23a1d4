"""Kind `tcp` without a guest: its tables, its servers, and the relay into a network namespace."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.errors import UsageError
from conformance.sut.load import load
from conformance.sut.tcp.deployment import _know_guest
from conformance.sut.tcp.relay import Relay
from conformance.sut.tcp.servers import TcpServers
from conformance.sut.tcp.tables import TcpReferenceTable, TcpTarget
from guests.host.progress import silent
from tests.targets import loaded
from tests.waiting import PATIENT


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("reference-tcp", ""),
        ("diod-tcp", ",aname=/exports/1"),
        ("ganesha-tcp", ",aname=/exports/1"),
        ("p9ufs-tcp", ""),
    ],
)
def test_each_share_is_an_export_of_a_server_of_its_own(tmp_path: Path, name: str, shown: str) -> None:
    table = loaded(name, TcpTarget).server
    made = TcpServers(table, tmp_path, [Path(f"/exports/{n}") for n in range(4)], silent)
    assert made.source(1) == ("10.0.2.2", f"trans=tcp,port=0{shown}")
    assert made.processes() == {} and made.argv == []


def test_the_name_of_the_guest_is_added_to_those_that_the_host_knows(tmp_path: Path) -> None:
    for _ in ("started", "rebooted"):
        _know_guest("box9", tmp_path)
        lines = (tmp_path / "hosts").read_text().splitlines()
        assert lines.count("127.0.0.1 box9") == 1
        assert set(Path("/etc/hosts").read_text().splitlines()) <= set(lines)


def test_a_program_that_no_guest_mounts_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('kind = "tcp"\ntitle = "mine"\n[server]\nprogram = "diodd"\n')
    with pytest.raises(UsageError, match=r"server.*'diodd'"):
        load(str(mine))


@pytest.mark.skipif(os.geteuid() != 0, reason="a server under test runs contained, which needs root")
def test_the_servers_of_a_guest_are_started_and_ended(tmp_path: Path) -> None:
    exports = [tmp_path / f"export{n}" for n in range(4)]
    made = TcpServers(TcpReferenceTable(), tmp_path, exports, silent)
    made.start(())
    try:
        ports = [int(made.source(n)[1].rpartition("=")[2]) for n in range(4)]
        assert len(set(ports)) == 4 and made.death() is None and made.title.startswith("reference ")
        for port in ports:
            socket.create_connection(("127.0.0.1", port)).close()
        os.kill(made.processes()["device"], 9)
        assert "SIGKILL" in str(_until_dead(made))
    finally:
        made.remove()
    assert made.processes() == {}
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", ports[1]))


def _until_dead(made: TcpServers) -> str | None:
    pid = made.processes()["device"]
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return made.death()


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as far:
        yield far


def test_a_relay_carries_bytes_and_their_end_both_ways() -> None:
    with listening() as far:
        relay = Relay(lambda: socket.create_connection(far.getsockname()))
        try:
            with socket.create_connection(("127.0.0.1", relay.port), PATIENT) as near:
                there, _ = far.accept()
                there.settimeout(PATIENT)
                sent = os.urandom(1_000_000)

                def send() -> None:
                    near.sendall(sent)
                    near.shutdown(socket.SHUT_WR)

                sender = threading.Thread(target=send)
                sender.start()
                assert _all(there) == sent
                sender.join()
                there.sendall(b"the answer")
                there.close()
                assert _all(near) == b"the answer"
        finally:
            relay.close()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", relay.port))


def test_where_nobody_listens_the_connection_ends() -> None:
    def refused() -> socket.socket:
        raise ConnectionRefusedError

    relay = Relay(refused)
    try:
        with socket.create_connection(("127.0.0.1", relay.port), PATIENT) as near:
            assert _all(near) == b""
    finally:
        relay.close()


def test_an_end_of_the_relay_ends_its_connections() -> None:
    with listening() as far:
        relay = Relay(lambda: socket.create_connection(far.getsockname()))
        with socket.create_connection(("127.0.0.1", relay.port), PATIENT) as near:
            there, _ = far.accept()
            there.sendall(b"x")
            assert near.recv(1) == b"x"
            relay.close()
            assert _all(near) == b""
            there.close()


def _all(end: socket.socket) -> bytes:
    parts = []
    while data := end.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)
