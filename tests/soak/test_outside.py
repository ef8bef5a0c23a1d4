"""The exported directory on another machine: the checks over SSH equal those on this host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from guests.access.destination import Destination
from guests.agent.hosts import LocalHost, reach
from guests.agent.link import LinkLost
from soak.inside import elsewhere
from soak.inside.common import manifest
from soak.inside.kernel_build import differing
from soak.monitors.afar import AfarMonitor
from soak.outside import Outside
from tests.ssh_server import SshServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    server = SshServer(tmp_path)
    with server.running():
        (tmp_path / "config").write_text(server.config())
        yield server


@pytest.fixture
def there(server: SshServer, tmp_path: Path) -> Iterator[Outside]:
    (tmp_path / "export" / "d").mkdir(parents=True)
    (tmp_path / "export" / "d" / "a\udcff").write_bytes(b"content")
    (tmp_path / "export" / "link").symlink_to("d")
    host = reach(Destination(server.alias), tmp_path / "config")
    yield Outside(host, str(tmp_path / "export"))
    host.close()


def test_another_machine_says_the_same(there: Outside, tmp_path: Path) -> None:
    here = Outside(LocalHost(), there.path)
    assert there.identity() == here.identity() != [0, 0]
    assert there.ask(manifest) == here.ask(manifest) and len(there.ask(manifest)) == 3
    assert there.ask(elsewhere.content, "d/a\udcff") == here.ask(elsewhere.content, "d/a\udcff")
    assert there.ask(elsewhere.content, "none") is None and there.below("none").identity() == [0, 0]
    assert there.ask(elsewhere.room).keys() == here.ask(elsewhere.room).keys()
    assert there.ask(differing, {"d/x": "1"}) == here.ask(differing, {"d/x": "1"}) != []
    (tmp_path / "big").write_bytes(os.urandom(300_000))
    there.put("big", tmp_path / "big")
    assert (tmp_path / "export" / "big").read_bytes() == (tmp_path / "big").read_bytes()


def test_a_connection_that_is_lost_is_no_finding(there: Outside, server: SshServer) -> None:
    server.cut()
    with pytest.raises(LinkLost, match=r"machine is not reached"):
        there.identity()


def test_processes_of_another_machine_have_the_series_of_this_one(there: Outside) -> None:
    monitor = AfarMonitor(there, {"device": os.getpid(), "hypervisor": 2**22 + 1}, 0)
    first, second = monitor.sample(), monitor.sample()
    assert first["device.rss_mb"] > 1 and first["device.own_mb"] > 1 and first["device.fds"] > 2
    assert first["export.free_mb"] > 0 and first["host.available_mb"] > 0
    assert "device.cpu" not in first and second["device.cpu"] >= 0
    assert not any(name.startswith("hypervisor.") or name.endswith("_s") for name in second), "that one has ended"
    assert monitor.age < 3600
