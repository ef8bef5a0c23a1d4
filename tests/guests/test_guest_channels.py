"""The channels into a guest, against servers that misbehave: every failure is one line with a remedy."""

from __future__ import annotations

import json
import runpy
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guests.access import launcher as resident
from guests.access.launcher import SocketLineChannel, connect
from guests.access.ssh import image_shell
from guests.errors import InfrastructureError
from guests.host import waiting
from guests.host.lines import LineBuffer
from guests.images.build import _make_keys
from guests.images.recipe import GUEST_FILES
from guests.machines.qemu.qmp import Qmp
from tests.waiting import PATIENT


@contextmanager
def serving(behave: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server on a free port that calls ``behave`` with each connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                behave(connection)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    _make_keys(tmp_path)
    return tmp_path


def test_lines_come_out_whole_however_the_bytes_come_in() -> None:
    lines = LineBuffer()
    assert lines.take() is None
    for part in (b"one\ntw", b"o", b"\n\nthree"):
        lines.add(part)
    assert [lines.take() for _ in range(4)] == [b"one", b"two", b"", None]
    lines.add(b"\n")
    assert lines.take() == b"three"


def test_a_channel_survives_a_timeout_and_reports_the_end() -> None:
    near, far = socket.socketpair()
    channel = SocketLineChannel(near)
    with pytest.raises(TimeoutError):
        channel.recv_line(0.05)
    far.sendall(b"late\n")
    assert channel.recv_line(PATIENT) == b"late"
    channel.send(b"ping\n")
    assert far.recv(10) == b"ping\n"
    far.close()
    with pytest.raises(InfrastructureError, match="ended"):
        channel.recv_line(PATIENT)
    channel.close()
    channel.close()


def test_a_guest_that_never_answers_is_one_line(keys: Path) -> None:
    with (
        serving(lambda connection: time.sleep(0.2)) as port,
        pytest.raises(InfrastructureError, match=r"did not answer .* within 1 s.*console"),
    ):
        connect(port, keys / "token", 1.0, lambda: True)


def test_a_refused_token_is_suspected(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit is over after enough tries, however long they take."""
    tries: list[bytes] = []
    now: Callable[[], float] = lambda: PATIENT + 1 if len(tries) > 10 else 0.0  # noqa: E731
    clock = SimpleNamespace(monotonic=now, time=time.time, sleep=time.sleep)
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(resident, "_ATTEMPT", PATIENT)
    with (
        serving(lambda connection: tries.append(connection.recv(1000))) as port,
        pytest.raises(InfrastructureError, match="wrong token"),
    ):
        connect(port, keys / "token", PATIENT, lambda: True)


def test_waiting_ends_with_the_machine(keys: Path) -> None:
    with pytest.raises(InfrastructureError, match="machine ended"):
        connect(1, keys / "token", PATIENT, lambda: False)


def test_another_program_on_the_ssh_port_is_one_line(keys: Path) -> None:
    with (
        serving(lambda connection: connection.sendall(b"220 mail ready\r\n" * 200)) as port,
        pytest.raises(InfrastructureError, match=f"SSH to 127.0.0.1:{port} failed"),
    ):
        image_shell(port, keys / "id_ed25519", keys / "known_host", limit=5.0)


def test_nobody_on_the_ssh_port_is_one_line(keys: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"SSH to 127\.0\.0\.1:1 failed"):
        image_shell(1, keys / "id_ed25519", keys / "known_host", limit=2.0)


def test_the_key_files_are_private(keys: Path) -> None:
    for name in ("id_ed25519", "token"):
        assert (keys / name).stat().st_mode & 0o777 == 0o600


def test_the_resident_runs_what_it_is_sent_only_with_the_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    source = (GUEST_FILES / "resident").read_text().replace("/etc/assay9-token", str(tmp_path / "token"))
    (tmp_path / "resident.py").write_text(source)
    serve = runpy.run_path(str(tmp_path / "resident.py"))["serve"]

    def ask(request: dict[str, Any], program: bytes) -> tuple[bytes, bytes | None]:
        near, far = socket.socketpair()
        with near, far:
            near.sendall(json.dumps(request).encode() + b"\n" + program)
            source_seen: bytes | None = serve(_WithoutNodelay(far))
            near.settimeout(0.1)
            try:
                return near.recv(10), source_seen
            except TimeoutError:
                return b"", source_seen

    assert ask({"token": "secret", "time": None, "source_size": 4}, b"pass") == (b"ok\n", b"pass")
    assert ask({"token": "secret", "time": None, "source_size": 0}, b"") == (b"ok\n", None)
    assert ask({"token": "guess", "time": None, "source_size": 4}, b"pass") == (b"", None)
    assert ask({"time": None, "source_size": 4}, b"pass") == (b"", None)


class _WithoutNodelay:
    """A UNIX socket that swallows TCP options."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real

    def setsockopt(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _fake_qemu(path: Path, script: list[bytes]) -> None:
    """A QMP server at ``path``: greets, then answers each command with the next piece of ``script``."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        connection.sendall(b'{"QMP": {}}\n')
        for answer in [b'{"return": {}, "id": %d}\n', *script]:
            number = json.loads(connection.recv(65536))["id"]
            connection.sendall(answer % number if b"%d" in answer else answer)
        connection.close()
        listener.close()

    threading.Thread(target=serve, daemon=True).start()


def test_qmp_takes_no_late_reply_for_the_next_commands(tmp_path: Path) -> None:
    """A command that timed out is answered later; that answer must not be taken for the next command's."""
    _fake_qemu(tmp_path / "qmp", [b"", b'{"return": "late", "id": 2}\n{"return": "own", "id": %d}\n'])
    qmp = Qmp(tmp_path / "qmp")
    with pytest.raises(InfrastructureError, match="does not answer"):
        qmp.execute("stop", limit=0.05)
    assert qmp.execute("query") == "own"
    qmp.close()


def test_qmp_keeps_events_that_come_between(tmp_path: Path) -> None:
    event = b'{"event": "GUEST_PANICKED", "data": {"action": "pause"}}\n'
    _fake_qemu(
        tmp_path / "qmp",
        [event + b'{"return": 7, "id": %d}\n' + event[:-1], b'\n{"error": {"desc": "no"}, "id": %d}\n'],
    )
    qmp = Qmp(tmp_path / "qmp")
    assert qmp.execute("query") == 7
    with pytest.raises(InfrastructureError, match="QEMU refused query: no"):
        qmp.execute("query")
    assert [seen["event"] for seen in qmp.events()] == ["GUEST_PANICKED"] * 2
    with pytest.raises(InfrastructureError, match="QEMU is gone"):
        for _ in range(2):
            qmp.execute("query")
    qmp.close()
