"""The agent on other systems translates numbers and structs; absent calls are reported and cost only their cases."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from errno import EAGAIN, EINVAL, ENODATA, ENOTEMPTY
from pathlib import Path

import pytest

from conformance.errors import Undrivable
from conformance.vfs.vantage import Vantage
from guests.agent.link import AgentLink, CallError
from guests.agent.local_channel import LocalChannel
from guests.agent.packing import agent_file
from guests.agent.payload import locks, platforms
from guests.agent.payload.wire import Signal, encode
from guests.agent.wire import CallAbsent, decode, errno_number

SIMULATION = Path(__file__).with_name("simulated_freebsd.py")
AT_REMOVEDIR, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW = 0x200, 0x400, 0x100


@pytest.fixture
def freebsd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentLink]:
    """An agent on a simulated FreeBSD; relative names are below `tmp_path`."""
    program = tmp_path / "freebsd.py"
    begin = f"import runpy, sys; sys.argv[1:] = [{str(agent_file())!r}]"
    program.write_text(f"{begin}; runpy.run_path({str(SIMULATION)!r}, run_name='__main__')")
    monkeypatch.setattr("guests.agent.local_channel.agent_file", lambda: program)
    link = AgentLink(LocalChannel())
    root = tmp_path / "root"
    root.mkdir()
    link.calls.setroot(str(root))
    yield link
    link.close()


def test_open_flags_are_translated_both_ways(freebsd: AgentLink) -> None:
    calls = freebsd.calls
    fd = calls.open("fred", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
    assert calls.fcntl(fd, 3) & ~os.O_LARGEFILE == os.O_RDWR | os.O_APPEND
    calls.fcntl(fd, 4, os.O_NONBLOCK)
    assert calls.fcntl(fd, 3) & (os.O_NONBLOCK | os.O_APPEND) == os.O_NONBLOCK
    calls.open(".", os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(CallAbsent, match="FreeBSD has no O_TMPFILE"):
        calls.open(".", os.O_RDWR | os.O_TMPFILE, 0o600)


def test_errors_cross_by_name(freebsd: AgentLink) -> None:
    freebsd.calls.mkdir("d")
    freebsd.calls.create("d/f")
    with pytest.raises(CallError) as failed:
        freebsd.calls.rmdir("d")
    assert failed.value.errno == ENOTEMPTY
    assert freebsd.calls.attempts([("rmdir", ["d"])]) == [ENOTEMPTY]
    assert errno_number("ENOATTR") == ENODATA
    assert errno_number("97531") == 97531


def test_flags_of_calls_below_a_descriptor(freebsd: AgentLink) -> None:
    calls = freebsd.calls
    calls.mkdir("d")
    calls.unlinkat("d", AT_REMOVEDIR)
    calls.create("f")
    calls.symlink("f", "link")
    calls.utimensat("link", 10**18, "omit", AT_SYMLINK_NOFOLLOW)
    assert calls.lstat("link")["st_atime_ns"] == 10**18
    calls.linkat("link", "hard", AT_SYMLINK_FOLLOW)
    assert calls.stat("f")["st_nlink"] == 2
    with pytest.raises(CallError) as failed:
        calls.unlinkat("f", 0x8)
    assert failed.value.errno == EINVAL


def test_times_now_and_omitted(freebsd: AgentLink) -> None:
    freebsd.calls.create("f")
    freebsd.calls.utimensat("f", 10**18, 10**18)
    freebsd.calls.utimensat("f", "omit", "now")
    seen = freebsd.calls.stat("f")
    assert seen["st_atime_ns"] == 10**18 < seen["st_mtime_ns"]


def test_record_locks_have_its_struct(freebsd: AgentLink) -> None:
    calls = freebsd.calls
    calls.create("f")
    fd = calls.open("f", os.O_RDWR)
    calls.setlk(fd, "w", 5, 10)
    freebsd.spawn("second", root=calls.getcwd())
    second = freebsd.calls_with(proc="second")
    second.setroot(str(Path(calls.readlink(f"/proc/self/fd/{fd}")).parent))
    theirs = second.open("f", os.O_RDWR)
    found = second.getlk(theirs, "r")
    assert (found["type"], found["start"], found["length"], found["pid"]) == ("w", 5, 10, calls.getpid())
    with pytest.raises(CallError) as failed:
        second.setlk(theirs, "w")
    assert failed.value.errno == EAGAIN
    with pytest.raises(CallAbsent, match="no open file description locks"):
        calls.setlk(fd, "w", ofd=True)


def test_what_is_absent_is_decided_at_the_start_and_said(freebsd: AgentLink) -> None:
    here = freebsd.calls.platform()
    assert (here["system"], here["machine"]) == ("FreeBSD", "amd64")
    assert here["absent"]["xattr"] == "Python has no os.setxattr on FreeBSD"
    assert here["absent"]["fallocate"] == "the C library of FreeBSD has no fallocate()"
    assert here["absent"]["statx"] == "FreeBSD has no statx(2)"
    assert freebsd.calls.mounts() == [["share0", "/mnt/x", "p9fs", "rw,noatime"]]


def test_a_case_that_needs_it_is_undrivable_with_that_reason(freebsd: AgentLink, tmp_path: Path) -> None:
    inside = Vantage("inside", freebsd, str(tmp_path))
    for call in (inside, inside.quietly):
        with pytest.raises(Undrivable, match=r"listxattr.*Python has no os.setxattr on FreeBSD"):
            call.listxattr("f")
    with pytest.raises(Undrivable, match="statx"):
        inside.quietly.look(["."], "statx")


def test_a_case_begins_and_ends_without_proc(freebsd: AgentLink, tmp_path: Path) -> None:
    freebsd.calls.begin_case(str(tmp_path / "root"), drop_caches=True)
    freebsd.calls.create("f")
    fd = freebsd.calls.open("f", os.O_RDONLY)
    assert freebsd.calls.end_case() is None
    with pytest.raises(CallError):
        freebsd.calls.read(fd, 1)
    stream = freebsd.calls.opendir(str(tmp_path))
    assert stream == 1


def test_on_this_linux_nothing_is_absent() -> None:
    assert platforms.ABSENT == {}


@pytest.mark.parametrize(("major", "minor"), [(8, 1), (259, 3), (4095, 255), (511, 1 << 18)])
def test_device_numbers_are_linuxs(monkeypatch: pytest.MonkeyPatch, major: int, minor: int) -> None:
    assert platforms.makedev_linux(major, minor) == os.makedev(major, minor)
    monkeypatch.setattr(platforms, "HERE_IS", platforms.ILLUMOS)
    assert platforms.local_device(os.makedev(major, minor)) == os.makedev(major, minor)


@pytest.mark.parametrize("name", ["darwin", "openbsd7"])
def test_another_system_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ValueError, match=f"^the agent does not know the system {name}: it knows Linux, FreeBSD"):
        platforms.platform_of(name)


def test_flags_of_another_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four flags have other numbers than on x86. Source: arch/arm64/include/uapi/asm/fcntl.h."""
    monkeypatch.setattr(platforms, "CALLERS_FLAGS", {})
    own = {"O_DIRECTORY": 0o40000, "O_NOFOLLOW": 0o100000, "O_DIRECT": 0o200000, "O_CREAT": 0o100, "O_SYNC": 0o4010000}
    monkeypatch.setattr(platforms, "OWN_FLAGS", own)
    theirs = {"O_DIRECTORY": 0o200000, "O_NOFOLLOW": 0o400000, "O_DIRECT": 0o40000, "O_CREAT": 0o100}
    assert platforms.open_flags(0o200102) == 0o200102, "before the caller has said how it counts"
    platforms.learn_flags(theirs)
    assert platforms.open_flags(0o200000 | 0o100 | 2) == 0o40000 | 0o100 | 2
    assert platforms.callers_flags(0o200000 | 0o100000) == 0o40000 | 0o400000


@pytest.mark.parametrize("row", platforms.PLATFORMS.values(), ids=platforms.PLATFORMS)
def test_each_layout_of_a_lock_gives_back_what_it_was_given(
    row: platforms.Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "HERE_IS", row)
    found = locks.unlock_struct(locks.lock_struct("w", 1 << 40, 7))
    assert (found["type"], found["start"], found["length"], found["pid"]) == ("w", 1 << 40, 7, 0)


def test_flags_that_illumos_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms, "HERE_IS", platforms.ILLUMOS)
    assert platforms.at_flags(AT_REMOVEDIR, "REMOVEDIR") == 0x1
    assert platforms.at_flags(AT_SYMLINK_NOFOLLOW, "SYMLINK_NOFOLLOW", "EMPTY_PATH") == 0x1000
    with pytest.raises(OSError, match="Invalid argument"):
        platforms.at_flags(0x1000, "SYMLINK_NOFOLLOW", "EMPTY_PATH")
    assert "ofd-locks" in platforms.absent_features() and "statx" in platforms.absent_features()


def test_signals_cross_by_name() -> None:
    assert decode(encode(Signal(signal.SIGBUS))) == signal.SIGBUS
    assert encode(Signal(signal.SIGBUS)) == {"signal": "SIGBUS"}
    assert encode(Signal(-99)) == -99


def test_no_layout_names_a_field_twice_or_leaves_one_out() -> None:
    for row in platforms.PLATFORMS.values():
        layout, fields = row.flock
        assert {"type", "whence", "start", "length", "pid"} <= set(fields)
        assert layout.startswith(("h", "q"))
