"""The commands, as processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol import codec
from protocol import constants as c
from protocol import messages as m

COMMAND = [sys.executable, "-m", "reference_server"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The process and the addresses it listens on."""
    process = subprocess.Popen([*COMMAND, "serve", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    count = ("--unix" in arguments) + ("--tcp" in arguments or "--unix" not in arguments)
    lines = [process.stdout.readline().strip() for _ in range(count)]
    assert all(line.startswith("listening on ") for line in lines), lines
    try:
        yield process, [line.removeprefix("listening on ").split(" ", 1)[1] for line in lines]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        process.stdout.close()


def begin(sock: socket.socket, aname: bytes = b"") -> bytes:
    sock.settimeout(10)
    sock.sendall(codec.frame(m.Tversion(c.NOTAG, 8192, b"9P2000.L")))
    sock.recv(100)
    sock.sendall(codec.frame(m.Tattach(1, 0, c.NOFID, b"", aname, 0)))
    return sock.recv(100)


def test_serve_on_both_and_end(folder: Path, tmp_path: Path) -> None:
    path, record = str(tmp_path / "s"), tmp_path / "record"
    more = tmp_path / "more"
    more.mkdir()
    options = ("--unix", path, "--tcp", ":0", "--record", str(record), "--export", f"more={more}")
    with serving(str(folder), *options) as (_process, (unix_address, tcp_address)):
        assert unix_address == path
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            assert begin(sock)[4] == m.Rattach.type
        host, _colon, port = tcp_address.rpartition(":")
        assert host == "127.0.0.1"
        with socket.create_connection((host, int(port))) as sock:
            assert begin(sock, b"more")[4] == m.Rattach.type
    assert not os.path.exists(path)
    assert os.stat(record).st_mode & 0o777 == 0o600
    printed = run("frames", str(record))
    assert printed.returncode == 0
    assert 'aname="more"' in printed.stdout
    assert printed.stdout.count("Tversion") == 2


def test_it_listens_on_loopback_by_default(folder: Path) -> None:
    with serving(str(folder), "--tcp", "localhost:0") as (_process, (address,)):
        assert address.startswith(("127.0.0.1:", "[::1]:"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{}/no"], "does not exist"),
        (["{}", "--tcp", "0.0.0.0:0"], "give --allow-remote if that is meant"),
        (["{}", "--tcp", "127.0.0.1:x"], "cannot listen on 127.0.0.1:x"),
        (["{}", "--unix", "{}"], "exists and is no socket"),
        (["{}", "--unix", "{}/no/s"], "No such file"),
        (["{}", "--export", "nonsense"], "is not NAME=DIR"),
        (["{}", "--export", "x={}/no"], "cannot export"),
        (["{}", "--record", "{}/no/r", "--tcp", ":0"], "cannot record to"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder: Path, arguments: list[str], said: str) -> None:
    result = run("serve", *[argument.format(folder) for argument in arguments])
    assert result.returncode in (1, 2)
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_frames_of_what_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"no record")
    result = run("frames", str(tmp_path / "r"))
    assert result.returncode == 1
    assert "not a record" in result.stderr


def test_readonly_and_mapped(folder: Path) -> None:
    for option, expected in (("--readonly", c.EROFS), ("--mapped", 0)):
        with (
            serving(str(folder), "--tcp", ":0", option) as (_process, (address,)),
            socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as sock,
        ):
            begin(sock)
            sock.sendall(codec.frame(m.Tmknod(2, 0, b"n", c.S_IFCHR | 0o600, 1, 3, 5)))
            reply = codec.decode(sock.recv(100))
            assert getattr(reply, "ecode", 0) == expected
    assert (folder / "n").is_file()
