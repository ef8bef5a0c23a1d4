"""The commands as processes."""

from __future__ import annotations

import inspect
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
from reference_server.framelog import Recorder
from reference_server.hostfs import HostNode
from tests.waiting import PATIENT, eventually

COMMAND = [sys.executable, "-m", "reference_server"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENT, check=False)


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
        assert process.wait(PATIENT) == 0
        process.stdout.close()


def begin(sock: socket.socket, aname: bytes = b"") -> bytes:
    sock.settimeout(PATIENT)
    sock.sendall(codec.frame(m.Tversion(c.NOTAG, 8192, b"9P2000.L")))
    sock.recv(100)
    sock.sendall(codec.frame(m.Tattach(1, 0, c.NOFID, b"", aname, 0)))
    return sock.recv(100)


def test_a_record_is_read_while_it_is_written_and_after_kill_9(folder: Path, tmp_path: Path) -> None:
    """The last frames before the end of a server matter most; earlier, they were lost in a buffer."""
    path, record = str(tmp_path / "s"), tmp_path / "record"
    argv = [*COMMAND, "serve", str(folder), "--unix", path, "--record", str(record)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline().startswith("listening on ")
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            begin(sock)
            running = run("frames", str(record))
            assert running.returncode == 0, running.stderr
            assert "Tattach" in running.stdout and "Rattach" in running.stdout
            sock.sendall(codec.frame(m.Tgetattr(2, 0, c.GETATTR_BASIC)))
            sock.recv(1000)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    killed = run("frames", str(record))
    assert killed.returncode == 0 and "Rgetattr" in killed.stdout and not killed.stderr
    os.truncate(record, record.stat().st_size - 3)
    cut = run("frames", str(record))
    assert cut.returncode == 0 and "Tgetattr" in cut.stdout and "Rgetattr" not in cut.stdout
    assert cut.stderr.count("\n") == 1 and "ends within a frame" in cut.stderr


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
    ("arguments", "status", "said"),
    [
        (["{}/no"], 2, "cannot export {}/no: No such file or directory"),
        (["/dev/null"], 2, "cannot export /dev/null: Not a directory"),
        (["{}", "--tcp", "0.0.0.0:0"], 2, "add --allow-remote to allow that"),
        (["{}", "--tcp", "127.0.0.1:x"], 2, "cannot listen on 127.0.0.1:x: it is not HOST:PORT"),
        (["{}", "--unix", "{}"], 2, "exists and is not a socket"),
        (["{}", "--unix", "{}/no/s"], 2, "No such file"),
        (["{}", "--unix", "{}/" + "s" * 200], 2, "path too long"),
        (["{}", "--unix", "{}/taken"], 3, "cannot listen on {}/taken: a server listens there already"),
        (["{}", "--tcp", "PORT"], 3, "Address already in use"),
        (["{}", "--export", "nonsense"], 2, "--export nonsense: is not NAME=DIR"),
        (["{}", "--export", "x={}/no"], 2, "cannot export {}/no"),
        (["{}", "--record", "{}/no/r", "--tcp", ":0"], 2, "cannot record to {}/no/r"),
        (["{}", "--lines", "{}/no/l", "--tcp", ":0"], 2, "cannot write lines to {}/no/l"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder: Path, arguments: list[str], status: int, said: str) -> None:
    with socket.socket(socket.AF_UNIX) as taken, socket.create_server(("127.0.0.1", 0)) as busy:
        taken.bind(str(folder / "taken"))
        taken.listen()
        port = f"127.0.0.1:{busy.getsockname()[1]}"
        result = run("serve", *[port if argument == "PORT" else argument.format(folder) for argument in arguments])
    assert said.format(folder) in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.returncode == status


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["{}/junk"], 2, "{}/junk: not a record of 9P frames"),
        (["{}/no"], 2, "{}/no: No such file or directory"),
        (["{}/empty", "--replay", "127.0.0.1:x"], 2, "--replay 127.0.0.1:x: it is neither HOST:PORT nor a path"),
        (["{}/empty", "--replay", "{}/no"], 3, "{}/no: No such file or directory"),
        (["{}/empty", "--replay", "127.0.0.1:1"], 3, "127.0.0.1:1: Connection refused"),
    ],
)
def test_what_is_wrong_with_frames(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    (tmp_path / "junk").write_bytes(b"no record")
    with open(tmp_path / "empty", "wb") as file:
        Recorder(file).received(1, codec.frame(m.Tclunk(1, 1)))
    result = run("frames", *[argument.format(tmp_path) for argument in arguments])
    assert said.format(tmp_path) in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.returncode == status


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


def test_lines_are_written_when_they_run_for_the_first_time_and_again_on_request(folder: Path, tmp_path: Path) -> None:
    path, lines = str(tmp_path / "s"), tmp_path / "lines"

    def written() -> list[str]:
        return lines.read_text().splitlines()

    with serving(str(folder), "--unix", path, "--lines", str(lines)) as (process, _):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            begin(sock)

            def ask(tag: int) -> None:
                sock.sendall(codec.frame(m.Tstatfs(tag, 0)))
                sock.recv(1000)

            assert not [line for line in written() if line in statfs_lines()]
            ask(1)
            ask(2)
            first = [line for line in written() if line in statfs_lines()]
            assert first and len(set(first)) == len(first)
            process.send_signal(signal.SIGUSR1)
            eventually(lambda: "again" in written(), "the file never said that lines count as new")
            ask(3)
            assert [line for line in written() if line in statfs_lines()] == first * 2
        assert os.stat(lines).st_mode & 0o777 == 0o600


def statfs_lines() -> set[str]:
    """The lines of the method that answers Tstatfs."""
    source, start = inspect.getsourcelines(HostNode.statfs)
    return {f"hostfs.py:{number}" for number in range(start + 1, start + len(source))}
