"""Target `socket`: the user's own server, and one line for each reason why it cannot be tested."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.errors import InfrastructureError, UsageError
from conformance.raw.wire import Wire
from conformance.run.wire import WireRunner
from conformance.sut.asked import check as check_asked
from protocol.codec import decode, frame
from protocol.messages import Rversion
from tests.targets import asked
from tests.waiting import complaint
from tests.wire.test_survival import case_of


@contextlib.contextmanager
def answering(address: Path, reply: Callable[[bytes], bytes]) -> Iterator[None]:
    """A server that answers the first bytes with `reply`."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen(8)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.sendall(reply(client.recv(4096)))

    threading.Thread(target=serve, daemon=True).start()
    yield
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def check(target: str = "socket", **options: str) -> None:
    check_asked(asked(target, ("wire",), **options))


def test_no_address() -> None:
    with pytest.raises(UsageError, match="--address HOST:PORT"):
        check()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "/dev/null", "localhost:1"])
def test_nobody_listens(address: str) -> None:
    with pytest.raises(InfrastructureError, match="no server answers at"):
        check(address=address)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (lambda raw: frame(Rversion(decode(raw).tag, 8192, b"unknown")), "does not speak 9P2000.L.*unknown"),
        (lambda raw: frame(Rversion(decode(raw).tag, 8192, b"9P2000.u")), "does not speak 9P2000.L.*9P2000.u"),
        (lambda _raw: b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak 9P2000.L"),
        (lambda _raw: b"\0\0\0\0", "does not speak 9P2000.L"),
    ],
    ids=["unknown", "u", "http", "zeros"],
)
def test_another_dialect(tmp_path: Path, reply: Callable[[bytes], bytes], said: str) -> None:
    with answering(tmp_path / "s", reply), pytest.raises(UsageError, match=said) as error:
        check(address=str(tmp_path / "s"))
    assert "\n" not in str(error.value)


def test_an_export_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a directory"):
        check(address=str(tmp_path / "s"), export=str(tmp_path / "missing"))


def test_address_for_another_target() -> None:
    with pytest.raises(UsageError, match="--address does not apply: target reference is started by"):
        check("reference", address="127.0.0.1:5640")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A reference server that the suite did not start: its address and what it exports."""
    export, address = tmp_path / "export", tmp_path / "s"
    export.mkdir()
    command = [sys.executable, "-m", "reference_server", "serve", str(export), "--unix", str(address)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert server.stdout is not None and server.stdout.readline()
    yield str(address), export
    server.terminate()
    server.wait(10)


def test_an_unknown_tree(served: tuple[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"refuses to attach 'elsewhere'.*--aname"):
        check(address=served[0], aname="elsewhere")


def test_a_run(served: tuple[str, Path], tmp_path: Path) -> None:
    address, export = served
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "assay9",
            "run",
            "socket",
            "--layer",
            "wire",
            "--family",
            "node",
            "--jobs",
            "1",
            "--results",
            str(tmp_path / "results"),
            f"--address={address}",
            f"--export={export}",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-500:]
    assert "nothing unexpected" in done.stdout


def test_what_is_asked_before_the_first_case_leaves_nothing_on_the_share(
    served: tuple[str, Path], tmp_path: Path
) -> None:
    address, export = served
    before = set(export.rglob("*"))
    runner = WireRunner(asked("socket", ("wire",), address=address, export=str(export)), tmp_path, "main")
    runner.start()
    runner.stop()
    assert runner.broken is None and set(export.rglob("*")) == before


def test_what_cannot_be_looked_at_is_undrivable(served: tuple[str, Path], tmp_path: Path) -> None:
    """Without --export, cases that need the host say so; the other cases still give a verdict."""

    def looks(wire: Wire) -> None:
        wire.host.names()

    def asks(wire: Wire) -> None:
        wire.client.getattr(wire.root)

    runner = WireRunner(asked("socket", ("wire",), address=served[0]), tmp_path, "main")
    runner.start()
    said = {f: runner.run_item(case_of(f), "", f, {"wire": None})[0] for f in (looks, asks)}
    runner.stop()
    assert (said[looks].verdict, "--export" in said[looks].reason) == ("undrivable", True)
    assert said[asks].verdict == "pass", said[asks].reason


def command_target(tmp_path: Path, reply: str) -> Path:
    """A target whose server is a command that answers everything with `reply`, an expression over `raw`."""
    script = tmp_path / "server.py"
    script.write_text(f"""\
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(8)
while True:
    client, _ = listener.accept()
    raw = client.recv(4096)
    if raw:
        client.sendall({reply})
""")
    target = tmp_path / "mine.toml"
    target.write_text(f"""\
kind = "server"
title = "mine"
[server]
program = "command"
arguments = ["{sys.executable}", "{script}", "{{unix}}"]
""")
    return target


RVERSION = 'b"\\x15\\0\\0\\0\\x65\\xff\\xff\\0\\x20\\0\\0\\x08\\x009P2000.u"'


@pytest.mark.parametrize(("reply", "said"), [(RVERSION, "9P2000.u"), ('b"HTTP/1.1 400 Bad\\r\\n\\r\\n"', "")])
def test_a_command_of_another_dialect_is_reported_in_one_line_too(tmp_path: Path, reply: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "assay9", "run", str(command_target(tmp_path, reply)), "--results", str(tmp_path / "r")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "does not speak 9P2000.L: " in done.stderr and said in done.stderr
    assert len(complaint(done.stderr)) == 1 and not done.stdout
    assert not (tmp_path / "r").exists()


def test_a_command_that_does_not_come_up_says_its_last_words(tmp_path: Path) -> None:
    target = command_target(tmp_path, "raw")
    (tmp_path / "server.py").write_text("raise SystemExit('cannot listen there')\n")
    with pytest.raises(InfrastructureError, match="cannot listen there"):
        check(str(target))
