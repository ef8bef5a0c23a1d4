"""The exported directory of another machine: an agent's calls there do the same as this host's calls here."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.errors import Finding, InfrastructureError, Undrivable
from conformance.raw.far_directory import FarDirectory
from conformance.raw.host_directory import HostDirectory
from guests.agent.link import AgentLink
from guests.agent.local_channel import LocalChannel

BIG = os.urandom((1 << 20) + 7)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[HostDirectory, HostDirectory]]:
    agent = AgentLink(LocalChannel())
    here, far = HostDirectory(tmp_path / "here"), FarDirectory(agent, str(tmp_path / "far"))
    here.make(0o750)
    far.make(0o750)
    yield here, far
    here.remove()
    far.remove()
    assert list(tmp_path.iterdir()) == []
    agent.close()


def shown(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns)


STEPS: list[Callable[[HostDirectory], object]] = [
    lambda d: stat.S_IMODE(d.stat().st_mode),
    lambda d: d.file(b"a\xff", b"content", 0o604),
    lambda d: d.times(b"a\xff", 10**18 + 1, 10**18 + 3),
    lambda d: shown(d.stat(b"a\xff")),
    lambda d: d.content(b"a\xff"),
    lambda d: d.write(b"a\xff", b"++"),
    lambda d: d.write(b"a\xff", b"C", 0),
    lambda d: d.content(b"a\xff"),
    lambda d: d.file(b"big", BIG),
    lambda d: d.content(b"big") == BIG,
    lambda d: d.truncate(b"big", 5),
    lambda d: d.content(b"big") == BIG[:5],
    lambda d: d.directory(b"d", 0o2755),
    lambda d: d.symlink(b"link", b"d/\xfe"),
    lambda d: d.readlink(b"link"),
    lambda d: d.readlink(b"big"),
    lambda d: d.readlink(b"none"),
    lambda d: d.link(b"big", b"hard"),
    lambda d: d.stat(b"hard").st_nlink,
    lambda d: d.fifo(b"fifo"),
    lambda d: d.socket(b"socket", 0o600),
    lambda d: d.chain(3),
    lambda d: d.rename(b"hard", b"d/moved"),
    lambda d: d.rename(b"none", b"d/x"),
    lambda d: d.names(),
    lambda d: d.names(b"d"),
    lambda d: d.names(b"none"),
    lambda d: d.unlink(b"none"),
    lambda d: d.rmdir(b"d"),
    lambda d: d.set_xattr(b"big", "user.x", b"\0v"),
    lambda d: d.xattr(b"big", "user.x"),
    lambda d: d.xattr(b"big", "user.none"),
    lambda d: d.exists(b"big"),
    lambda d: d.exists(b"big/x"),
    lambda d: d.file(b"none/x"),
    lambda d: d.statvfs().f_bsize,
]


def outcome(step: Callable[[HostDirectory], object], directory: HostDirectory) -> object:
    try:
        return step(directory)
    except (Finding, Undrivable, InfrastructureError) as error:
        return type(error).__name__, str(error).partition(":")[0]


def test_each_call_does_there_what_it_does_here(both: tuple[HostDirectory, HostDirectory]) -> None:
    for number, step in enumerate(STEPS):
        here, far = (outcome(step, directory) for directory in both)
        assert here == far, f"step {number}"


def test_what_a_case_does_by_calls_of_its_own_is_undrivable_there(both: tuple[HostDirectory, HostDirectory]) -> None:
    with pytest.raises(Undrivable, match="on another machine"):
        both[1].path(b"a")
