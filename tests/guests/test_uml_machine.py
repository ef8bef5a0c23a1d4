"""A User-Mode Linux guest boots, answers, ends whole. Runs only where its kernel is cached: a build takes minutes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from guests.agent.link import AgentLink
from guests.errors import InfrastructureError
from guests.host.processes import read_states
from guests.images.recipe import load_recipe
from guests.images.store import find_image
from guests.machines.uml.kernel import find_kernel
from guests.machines.uml.launch import tap_possible
from guests.machines.uml.machine import UmlMachine
from guests.machines.uml.spec import Device, UmlSpec

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(find_kernel() is None, reason="the UML kernel is not built: assay9 guest build uml"),
    pytest.mark.skipif(find_image(load_recipe("debian12")) is None, reason="no guest image: assay9 guest build"),
]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UmlMachine]:
    with UmlMachine(UmlSpec(run_dir=tmp_path_factory.mktemp("uml"))) as started:
        yield started


def test_the_agent_answers_over_the_console(machine: UmlMachine) -> None:
    agent = AgentLink(machine.agent_channel())
    assert agent.calls.uname()[2].startswith("6.12")
    assert agent.calls.trace_begin() is True, "the guest's 9p tracepoints are wanted"
    agent.calls.create("/control/a", b"x" * 200_000)
    assert agent.calls.slurp("/control/a") == b"x" * 200_000
    agent.close()


def test_commands_files_and_programs_without_a_network(machine: UmlMachine, tmp_path: Path) -> None:
    shell = machine.shell()
    assert shell.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=b"in").stdout == "in"
    assert shell.run("kill -9 $$").status == 137
    assert shell.run(["/no/such"]).status == 127
    with pytest.raises(TimeoutError):
        shell.run(["sleep", "60"], timeout=0.5)
    local = tmp_path / "file"
    local.write_bytes(os.urandom(300_000))
    shell.push(local, "/root/file", 0o600)
    shell.pull("/root/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == local.read_bytes()
    channel = shell.open_channel("while read line; do echo got $line; done")
    channel.send(b"one\n")
    assert channel.recv_line(30.0) == b"got one"
    channel.close()


def test_every_port_can_be_used_again_and_again(machine: UmlMachine) -> None:
    for number in range(20):
        assert machine.shell().run(["echo", str(number)]).stdout == f"{number}\n"


@pytest.mark.skipif(not tap_possible(), reason="SSH into a UML guest needs root and /dev/net/tun")
def test_ssh_as_the_suite_promises_uploads_too(machine: UmlMachine, tmp_path: Path) -> None:
    local = tmp_path / "upload"
    local.write_bytes(os.urandom(500_000))
    machine.ssh().push(local, "/root/upload")
    assert machine.ssh().run("wc -c < /root/upload").stdout.strip() == "500000"
    agent = AgentLink(machine.agent_channel("ssh"))
    assert agent.calls.getpid() > 1
    agent.close()


def test_the_whole_tree_ends_and_nothing_is_left(tmp_path: Path) -> None:
    machine = UmlMachine(UmlSpec(run_dir=tmp_path, network=False))
    machine.start()
    name, pid = machine.name, machine.pid
    tree = [process.pid for process in psutil.Process(pid).children(recursive=True)] + [pid]
    assert len(tree) > 1, "the guest's processes are children of its kernel"
    machine.stop()
    assert not any(psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE for p in tree)
    assert name not in {state.name for state in read_states()}
    assert not list(Path("/dev/shm").glob(f"assay9-{name}"))


def test_a_guest_that_ends_by_itself_is_reported_and_can_be_restored(tmp_path: Path) -> None:
    machine = UmlMachine(UmlSpec(run_dir=tmp_path, network=False))
    machine.start()
    try:
        agent = AgentLink(machine.agent_channel())
        with pytest.raises(InfrastructureError):
            agent.calls.write_text("/proc/sysrq-trigger", "c")
        assert machine.panicked() or not machine.alive()
        assert "panic" in machine.why_dead()
        machine.restore()
        assert machine.shell().run(["true"]).ok
    finally:
        machine.stop()


def test_a_device_that_nobody_serves_is_no_reason_not_to_boot(tmp_path: Path) -> None:
    spec = UmlSpec(run_dir=tmp_path, devices=(Device(tmp_path / "nobody"),), network=False)
    with UmlMachine(spec) as machine:
        assert machine.shell().run(["true"]).ok
