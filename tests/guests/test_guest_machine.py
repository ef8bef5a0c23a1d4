"""A real guest: restored, reached over every channel, crashed, restored, and removed without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from guests.agent.clock import MOST_OFFSET, GuestClock, over
from guests.errors import InfrastructureError
from guests.host.processes import clean_left_over, read_states, start_time
from guests.machines.qemu.machine import QemuMachine
from guests.machines.spec import DEFAULT_TAGS, Access, MachineSpec, Share
from tests.waiting import PATIENT, eventually

pytestmark = pytest.mark.guest

ECHO = "import sys\nfor line in sys.stdin:\n    print(line.strip()[::-1], flush=True)\n"
"""Stands in for the agent: sends each line back, reversed."""

MODEL = "passthrough" if os.geteuid() == 0 else "mapped-xattr"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> MachineSpec:
    base = tmp_path_factory.mktemp("machine")
    agent = base / "agent.py"
    agent.write_text(ECHO)
    shares = tuple(Share(tag, base / tag, security_model=MODEL) for tag in DEFAULT_TAGS)  # type: ignore[arg-type]
    for share in shares:
        share.path.mkdir()
    return MachineSpec(image="debian12", run_dir=base / "run", shares=shares, agent=agent)


@pytest.fixture(scope="module")
def machine(spec: MachineSpec) -> Iterator[QemuMachine]:
    with QemuMachine(spec, print) as started:
        yield started


def run(machine: QemuMachine, command: str) -> str:
    result = machine.shell().run(command)
    assert result.ok, result.stderr
    return result.stdout.strip()


def test_each_share_shows_its_own_directory(machine: QemuMachine, spec: MachineSpec) -> None:
    for share in spec.shares:
        (share.path / "who").write_text(share.tag)
        options = "trans=virtio,version=9p2000.L,cache=none"
        seen = run(
            machine,
            f"mkdir -p /mnt/{share.tag} && mount -t 9p -o {options} {share.tag} /mnt/{share.tag} && "
            f"cat /mnt/{share.tag}/who && umount /mnt/{share.tag}",
        )
        assert seen == share.tag


def test_the_guest_has_what_cases_need(machine: QemuMachine) -> None:
    before = time.time()
    assert before - 5 < float(run(machine, "date +%s.%N")) < time.time() + 5
    assert run(machine, "id -u alice; id -u bob; id -Gn bob") == "1001\n1002\nbob shared"
    assert "9p_protocol_dump" in run(machine, "ls /sys/kernel/tracing/events/9p")
    assert int(run(machine, "awk '/HugePages_Free/ {print $2}' /proc/meminfo")) >= 1
    run(
        machine,
        "cd /control && touch f && setfattr -n user.a -v 1 f && setfattr -n trusted.a -v 1 f && "
        "setfattr -n security.a -v 1 f && setfacl -m u:alice:rw f && getfacl f | grep -q user:alice:rw- && rm f",
    )
    assert run(machine, "stat -f -c %T /control") == "ext2/ext3"


def test_its_clock_is_the_hosts_after_each_start(machine: QemuMachine) -> None:
    for _ in range(2):
        channel = machine._started()._clock_channel()
        clock = GuestClock(over(channel))
        seen = clock.read()
        assert abs(seen.offset) - seen.unsure <= MOST_OFFSET, seen
        assert not clock.rate(seen).wrong
        channel.close()
        machine.restore()


def test_commands_give_status_output_and_limits(machine: QemuMachine) -> None:
    result = machine.shell().run(["sh", "-c", "cat; echo err >&2; exit 7"], stdin=b"in\xff")
    assert (result.status, result.stdout, result.stderr) == (7, "in\udcff", "err\n")
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="sleep 6000"):
        machine.shell().run(["sleep", "6000"], timeout=1.0)
    assert time.monotonic() - started < PATIENT
    assert run(machine, "echo still here") == "still here"


def test_files_go_in_and_come_out_unchanged(machine: QemuMachine, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "out").write_bytes(content)
    machine.shell().push(tmp_path / "out", "/tmp/a file", mode=0o640)
    assert run(machine, "stat -c %a '/tmp/a file'") == "640"
    machine.shell().pull("/tmp/a file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


@pytest.mark.parametrize("access", get_args(Access))
def test_an_agent_answers_by_either_access(machine: QemuMachine, access: Access) -> None:
    first, second = (machine.agent_channel(access) for _ in range(2))
    first.send(b"one\n")
    second.send(b"two\n")
    assert (second.recv_line(30), first.recv_line(30)) == (b"owt", b"eno")
    with pytest.raises(TimeoutError):
        first.recv_line(0.1)
    long = b"x" * 3_000_000
    first.send(long + b"\n")
    assert first.recv_line(60) == long
    first.close()
    second.close()


def test_the_console_lets_one_in(machine: QemuMachine) -> None:
    login = machine.console_login()
    try:
        result = login.run("id -un; sh -c 'exit 5'")
    finally:
        login.close()
    assert (result.stdout.strip(), result.status) == ("root", 5)


def test_a_complaint_of_the_kernel_is_found_between_marks(machine: QemuMachine) -> None:
    before = machine.console.mark()
    machine.shell().run("mkdir -p /mnt/none; mount -t 9p -o trans=virtio no_such_tag /mnt/none")
    run(machine, "echo 'WARNING: planted' > /dev/kmsg")
    after = machine.console.mark()
    assert [event.kind for event in machine.console.since(before)] == ["9p", "warning"]
    assert machine.console.since(after) == []
    assert machine.alive()


def test_a_second_machine_runs_beside_the_first(machine: QemuMachine, spec: MachineSpec) -> None:
    with QemuMachine(replace(spec, run_dir=spec.run_dir.with_name("run2"))) as other:
        assert other.pid != machine.pid
        run(other, "echo other > /control/mark")
        assert not machine.shell().run("cat /control/mark").ok


def test_a_panic_is_known_and_a_restored_guest_is_fresh(machine: QemuMachine) -> None:
    run(machine, "echo dirty > /control/dirty")
    mark = machine.console.mark()
    with pytest.raises((InfrastructureError, TimeoutError)):
        machine.shell().run("echo c > /proc/sysrq-trigger; sleep 6000", timeout=PATIENT)
    assert not machine.alive() and machine.panicked()
    assert machine.why_dead() == "the guest's kernel panicked"
    assert "panic" in [event.kind for event in machine.console.since(mark)]
    first_pid = machine.pid
    machine.restore()
    assert machine.alive() and machine.pid != first_pid
    assert run(machine, "ls /control") == ""


def test_a_killed_qemu_is_said_to_be_killed(machine: QemuMachine) -> None:
    channel = machine.agent_channel()
    os.kill(machine.pid, signal.SIGKILL)
    with pytest.raises(InfrastructureError, match=r"ended|gone"):
        channel.recv_line(PATIENT)
    assert not machine.alive() and "killed by SIGKILL" in machine.why_dead()
    with pytest.raises(InfrastructureError):
        machine.shell().run("true", timeout=PATIENT)
    machine.restore()
    assert run(machine, "echo up") == "up"


def test_a_guest_that_hangs_is_bounded(machine: QemuMachine) -> None:
    machine.shell()
    machine.qmp("stop")
    try:
        with pytest.raises(TimeoutError):
            machine.shell().run("true", timeout=2.0)
        assert machine.alive(), "paused is not dead"
    finally:
        machine.restore()
    assert run(machine, "echo up") == "up"


def test_a_taken_port_is_one_line(machine: QemuMachine, spec: MachineSpec) -> None:
    with pytest.raises(InfrastructureError, match=rf"port {machine.ssh_port} on .* is taken"):
        QemuMachine(replace(spec, ssh_port=machine.ssh_port, run_dir=spec.run_dir.with_name("run3"))).start()


def test_a_wrong_argument_for_qemu_is_quoted(spec: MachineSpec) -> None:
    wrong = QemuMachine(replace(spec, host_args=("-trace", "enable=no_such_event", "-no-such-option")))
    with pytest.raises(InfrastructureError, match=r"QEMU did not start: .*no-such-option"):
        wrong.start()


def test_stopping_leaves_nothing(spec: MachineSpec) -> None:
    machine = QemuMachine(replace(spec, run_dir=spec.run_dir.with_name("run4")))
    machine.start()
    pid, name = machine.pid, machine.name
    directories = [Path(path) for state in read_states() if state.name == name for path in state.temporary]
    assert len(directories) == 2 and all(path.is_dir() for path in directories)
    machine.stop()
    machine.stop()
    assert start_time(pid) is None
    assert not any(path.exists() for path in directories)
    assert name not in [state.name for state in read_states()]


def test_a_runner_killed_with_9_takes_its_machine_along(spec: MachineSpec, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from guests.machines.qemu.machine import QemuMachine\n"
        "from guests.machines.spec import DEFAULT_TAGS, MachineSpec, Share\n"
        f"m = QemuMachine(MachineSpec(image='debian12', run_dir=Path({str(tmp_path)!r}),"
        f" shares=tuple(Share(t, Path({str(spec.shares[0].path)!r})) for t in DEFAULT_TAGS)))\n"
        "m.start(); print(m.pid, m.name, flush=True); time.sleep(600)\n"
    )
    runner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert runner.stdout is not None
    pid_text, name = runner.stdout.readline().split()
    pid, started = int(pid_text), start_time(int(pid_text))
    assert started is not None
    runner.kill()
    runner.wait()
    eventually(lambda: start_time(pid) != started, "QEMU outlived its runner")
    reported = clean_left_over()
    assert any(name in line for line in reported), reported
    assert not any(name in state.name for state in read_states())


def test_a_bad_snapshot_is_made_again(spec: MachineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str] = []
    machine = QemuMachine(replace(spec, run_dir=spec.run_dir.with_name("run5"), control_mb=64), reported.append)
    machine.start()
    machine.stop()
    assert machine._snapshot is not None
    subprocess.run(["qemu-img", "snapshot", "-d", "ready", machine._snapshot.state], check=True)
    try:
        machine.start()
        assert run(machine, "df -m --output=size /control | tail -1").strip() != ""
    finally:
        machine.stop()
    assert any("the snapshot cannot be used" in line for line in reported)
