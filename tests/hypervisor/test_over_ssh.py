"""A machine on a host over SSH, from its start to its end: host and guest are SSH servers of this process.

The machine is a sleeping process, and its share is one directory seen twice. The tests check where commands run,
how the suite waits for the guest, that a machine that is gone comes back, and that nothing is left.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.errors import InfrastructureError
from conformance.sut.asked import asked_of
from conformance.sut.attach import deployment as attaching
from conformance.sut.hypervisor import deployment as hypervising
from conformance.sut.hypervisor.deployment import HypervisorDeployment
from conformance.sut.load import load
from conformance.sut.registry import kind_of
from guests.access.destination import Destination
from guests.agent.clock import GuestClock, WrongClock
from guests.agent.hosts import Host, reach
from guests.agent.link import AgentLink
from tests.ssh_server import SshServer

TOML = """\
kind = "hypervisor"
title = "a process that sleeps"
[machine]
start = "setsid sleep {seconds} < /dev/null > /dev/null 2>&1 & echo $! > {run}/pid; echo started > {run}/log"
stop = "test ! -f {run}/pid || kill -KILL $(cat {run}/pid)"
alive = "test -f {run}/pid && kill -0 $(cat {run}/pid)"
version = "echo sleep 9"
log = "cat {run}/log"
boot_seconds = 60
[backing]
make = ["mkdir {path}"]
remove = ["rm -r {path}"]
bind = "true {dir} {flag}"
small = "true {dir} {size}"
unmount = "true {dir}"
[console]
command = "echo login:; read name; echo hello $name; sleep 600"
steps = [{ expect = "login:", send = "root" }]
[values]
seconds = "600"
"""
SHOWN = "rw,sync,dirsync,relatime,access=client,trans=virtio"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HypervisorDeployment]:
    if os.geteuid() != 0:
        pytest.skip("root, as in a guest")
    share, control = tmp_path / "share", tmp_path / "control"
    control.mkdir()

    def mounted(link: AgentLink, where: str) -> str | None:
        return f"share0 {where} 9p {SHOWN} 0 0" if Path(where).is_symlink() else None

    def mount(link: AgentLink, where: str, *_: object) -> str:
        Path(where).symlink_to(share)
        return f"share0 {where} 9p {SHOWN} 0 0"

    def unmount(link: AgentLink, where: str) -> None:
        if Path(where).is_symlink():
            Path(where).unlink()
            Path(where).mkdir()  # like the mount point when nothing is mounted there

    for name, function in {"mounted": mounted, "mount_9p": mount, "unmount": unmount}.items():
        monkeypatch.setattr(attaching, name, function)
    monkeypatch.setattr(hypervising, "_CLOCK", 0.1)
    (tmp_path / "mine.toml").write_text(TOML)
    guest, host = SshServer(tmp_path, "guest"), SshServer(tmp_path, "host")
    with guest.running(), host.running():
        (tmp_path / "config").write_text(guest.config() + host.config())
        options = {
            "guest": "guest",
            "outside": f"host:{share}",
            "control_dir": str(control),
            "ssh_config": str(tmp_path / "config"),
        }
        target = load(str(tmp_path / "mine.toml"))
        asked = asked_of(target, options)
        kind_of(target).check(asked)
        deployment = kind_of(target).deployment(asked, tmp_path, print)
        assert isinstance(deployment, HypervisorDeployment)
        try:
            yield deployment
        finally:
            deployment.stop()
        assert not share.exists() and not any(control.iterdir())
        assert any("sleep 600" in command for command in host.commands), "commands run on the host"
        assert not any("sleep" in command for command in guest.commands)
        run = next(found[1] for command in host.commands if (found := re.search(r"(/tmp/assay9-\w+)/pid", command)))
        assert not Path(run).exists()


def test_a_guest_that_boots_and_closes_connections_is_no_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=refuse, daemon=True).start()
        (tmp_path / "config").write_text("Host *\n IdentityAgent none\n")
        with pytest.raises(InfrastructureError):
            reach(Destination("127.0.0.1", "root", listener.getsockname()[1]), tmp_path / "config")
    assert caplog.records == []


def sleeping(made: HypervisorDeployment) -> int:
    return int(Path(made._run, "pid").read_text())


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and ") Z" not in Path(f"/proc/{pid}/stat").read_text()


def test_a_machine_is_started_used_and_ended_over_ssh(
    made: HypervisorDeployment, capsys: pytest.CaptureFixture[str]
) -> None:
    made.start()
    assert "cannot be run: they need mounts on the host" not in capsys.readouterr().out
    pid = sleeping(made)
    assert alive(pid) and made.trouble() is None and made.guest_mb > 0
    made.inside.calls.write_text(f"{made.inside_root}/a", "seen")
    assert made.outside.calls.read_text(f"{made.outside_root}/a") == "seen"
    assert "mount-namespace" in made.features and made.host_mounts is made.vm
    said = made.environment()
    assert said["hypervisor"] == said["target_version"] == made.version == "sleep 9"
    assert "setsid sleep 600" in said["argv"][0]
    assert made.processes() == {}, "a process of another host is not watched here"
    made.stop()
    assert not alive(pid)
    assert "hello root" in made._console_log.read_text()


def test_a_machine_that_ended_is_trouble_and_comes_back(made: HypervisorDeployment) -> None:
    made.start()
    first = sleeping(made)
    made.power.cut()
    assert not alive(first)
    made._hosts["guest"].close()
    assert made.trouble() == "the machine ended: started"
    made.recover()
    assert alive(sleeping(made)) and sleeping(made) != first and made.trouble() is None


def test_a_machine_that_ends_while_its_guest_boots_is_no_wait(
    made: HypervisorDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "_guest_text", "root@127.0.0.1:1")
    begun = made._prepare

    def prepare(host: object) -> None:
        begun(host)  # type: ignore[arg-type]
        monkeypatch.setattr(made.vm, "alive", iter([False, True, False, False, False, False]).__next__)

    monkeypatch.setattr(made, "_prepare", prepare)
    with pytest.raises(InfrastructureError, match=r"the machine ended before its guest answered: started"):
        made.start()


@pytest.mark.parametrize("boots", [1, 3])
def test_a_guest_that_mismeasured_its_clock_is_started_again(
    made: HypervisorDeployment, monkeypatch: pytest.MonkeyPatch, boots: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guest's kernel counts 12 times too fast as long as it runs: setting its time does not last."""
    wrong = list(range(boots))

    def uptime(host: Host) -> GuestClock:
        rate = 12 if wrong and wrong.pop() is not None else 1
        return GuestClock(lambda _: (0, time.monotonic_ns() * rate))

    monkeypatch.setattr(hypervising, "uptime", uptime)
    if boots == 3:
        with pytest.raises(WrongClock, match=r"the guest's clock runs 1[12]\.\d+ times as fast as this host's"):
            made.start()
        return
    made.start()
    assert "so that the guest is started again" in capsys.readouterr().out and made.trouble() is None
