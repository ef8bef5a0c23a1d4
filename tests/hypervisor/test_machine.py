"""Kind `hypervisor` without a hypervisor: its tables, its commands on this host, its console."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from conformance.errors import InfrastructureError, Undrivable, UsageError
from conformance.sut.asked import check
from conformance.sut.attach.facts import ask
from conformance.sut.hypervisor.console import Console
from conformance.sut.hypervisor.kind import guest_of, values_of
from conformance.sut.hypervisor.machine import Machine
from conformance.sut.hypervisor.tables import BackingTable, ConsoleTable, MachineTable, command_of
from conformance.sut.load import FOLDER, load, names
from guests.access.shell import Result
from guests.agent.hosts import COMMAND, LocalHost
from tests.targets import asked
from tests.waiting import PATIENT

SHIPPED = [name for name in names() if load(name).kind == "hypervisor"]
GIVEN = {
    "qemu-remote": ("disk=/d",),
    "bhyve-freebsd": ("disk=/d",),
    "bhyve-illumos": (),
    "kvmtool": ("kernel=/k", "disk=/d"),
    "crosvm": ("kernel=/k", "disk=/d"),
    "cloud-libvirt": ("domain=d",),
    "proxmox": ("id=1",),
}
BASE = """\
kind = "hypervisor"
title = "mine"
[machine]
start = "true"
stop = "true"
alive = "true"
"""


def test_the_shipped_targets_are_these() -> None:
    assert set(SHIPPED) == set(GIVEN)


@pytest.mark.parametrize("name", GIVEN)
def test_a_shipped_target_says_whether_it_was_ever_run_and_all_its_commands_are_shell(name: str) -> None:
    first = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(("# Never run: ", "# Run last on 20"))
    made = asked(name, guest="root@vm", outside="/srv/share", value=GIVEN[name])
    values = {**values_of(made), "run": "/tmp/run", "port": "2222"}
    for where, text in made.target.commands():
        command = command_of(text, values)
        done = subprocess.run(["sh", "-n", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (where, command, done.stderr)
        assert not any(f"{{{key}}}" in command for key in (*values, *made.target.values)), (where, command)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            BASE.replace('"true"', '"x {nmae}"', 1),
            "machine.start: unknown placeholder '{nmae}': did you mean '{name}'?",
        ),
        (BASE.replace("stop", "stpo"), "unknown key 'machine.stpo': did you mean 'stop'?"),
        (BASE.replace('alive = "true"\n', ""), "machine.alive is missing"),
        (BASE + "[console]\n", "console: give one of command, socket, telnet, serial, ssh"),
        (BASE + '[console]\ntelnet = "host"\n', "console: telnet: give HOST:PORT"),
        (BASE + '[console]\ncommand = "x"\nsteps = [{ expect = "(", send = "" }]\n', "'(' is not a regular expression"),
        (BASE + '[values]\npath = "x"\n', "values: path cannot be the name of a placeholder"),
        (BASE + '[backing]\nmake = "mkdir {path}"\n', 'backing.make: give a list, in brackets: ["mkdir {path}"]'),
    ],
)
def test_what_is_wrong_in_a_toml_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError) as error:
        load(str(tmp_path / "mine.toml"))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_values_are_given_on_the_command_line() -> None:
    where = {"guest": "root@vm", "outside": "root@host:/srv/a b"}
    values = values_of(asked("kvmtool", **where, value=("kernel=/k", "disk=/d=1"), tag="t"))
    assert (values["kernel"], values["disk"], values["tag"], values["path"]) == ("/k", "/d=1", "t", "/srv/a b")
    assert command_of("x {path}", values) == "x '/srv/a b'"
    with pytest.raises(UsageError, match=r"target kvmtool needs a value: --value disk=..."):
        values_of(asked("kvmtool", **where, value=("kernel=/k",)))
    with pytest.raises(UsageError, match=r"unknown placeholder 'krnel': did you mean 'kernel'"):
        values_of(asked("kvmtool", **where, value=("krnel=/k",)))
    with pytest.raises(UsageError, match=r"give KEY=VALUE"):
        values_of(asked("kvmtool", **where, value=("kernel",)))
    with pytest.raises(UsageError, match=r"unknown placeholder '{adress}': did you mean '{address}'"):
        guest_of(asked("kvmtool", guest="root@{adress}", outside="/x"))
    with pytest.raises(UsageError, match=r"--mounted does not apply: target kvmtool starts its guest"):
        asked("kvmtool", **where, mounted="/mnt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ('start = "true"', 'start = "nosuch-bhyve -A {name}"'),
            "machine.start: this host has no program 'nosuch-bhyve'",
        ),
        (('stop = "true"', 'stop = "nosuch-virsh destroy {name}"'), "machine.stop: this host has no program 'nosuch-v"),
        (
            ("[machine]", '[backing]\nmake = ["true", "nosuch-zfs x"]\n[machine]'),
            "backing.make: this host has no program",
        ),
        (("[machine]", '[values]\nmyvm = "nosuch vm"\n[machine]\npid = "nosuch-pid"'), ""),
        (('start = "true"', 'start = "test -e /x || nosuch-bhyve & cat < /dev/null"'), ""),
    ],
)
def test_a_program_that_the_host_has_not_is_named_before_a_run(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    """A misspelt command or a wrong host gave a whole run of errors that said `not found`."""
    (tmp_path / "mine.toml").write_text(BASE.replace(*change))
    made = asked(str(tmp_path / "mine.toml"), guest="root@vm", outside="/srv/share", tag="share0")
    if said:
        with pytest.raises(UsageError, match=said):
            check(made)
    else:
        check(made)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Any]:
    made: list[Machine] = []

    def make(**commands: str) -> Machine:
        table = {
            "start": "echo started >> {run}/log; setsid sleep 600 < /dev/null > /dev/null 2>&1 & echo $! > {run}/pid",
            "stop": "test ! -f {run}/pid || kill -KILL $(cat {run}/pid); rm -f {run}/pid",
            "alive": "test -f {run}/pid && kill -0 $(cat {run}/pid)",
            "pause": "kill -STOP $(cat {run}/pid)",
            "resume": "kill -CONT $(cat {run}/pid)",
            "version": "echo sleep 9.1; echo more",
            "log": "tail -c 400 {run}/log",
            **commands,
        }
        backing = BackingTable(make=("mkdir {path}", "touch {path}/made"), remove=("rm -r {path}", "false"))
        values = {"run": str(tmp_path), "path": str(tmp_path / "a share"), "name": "n", "tag": "t"}
        made.append(Machine(MachineTable.model_validate(table), backing, LocalHost(), values))
        return made[-1]

    yield make
    if made:
        subprocess.run(["sh", "-c", f"kill -KILL $(cat {tmp_path}/pid) 2>/dev/null"], check=False)


class SlowHost(LocalHost):
    """A machine that needs two minutes for a command, as one that is emulated does on a busy host."""

    def run(self, argv: Sequence[str] | str, timeout: float = COMMAND, stdin: bytes = b"") -> Result:
        if timeout < 120:
            raise TimeoutError
        return super().run(argv, timeout, stdin)


def test_a_slow_machine_is_waited_for(tmp_path: Path) -> None:
    table = MachineTable(start="true", stop="true", alive="true")
    assert Machine(table, BackingTable(), SlowHost(), {"name": "n"}).alive()
    assert ask(SlowHost(), str(tmp_path)).directory


def becomes(tmp_path: Path, wanted: str) -> bool:
    """Whether the process reaches that state; on a busy machine a signal takes a while."""
    pid, limit = (tmp_path / "pid").read_text().strip(), time.monotonic() + PATIENT
    while time.monotonic() < limit:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == wanted:
            return True
        time.sleep(0.01)
    return False


def test_a_machine_is_started_paused_reset_and_ended_by_its_commands(tmp_path: Path, machine: Any) -> None:
    made = machine()
    assert not made.alive()
    made.start()
    assert made.alive() and made.version() == "sleep 9.1" and made.last_words() == ": started"
    assert made.pause() and becomes(tmp_path, "T")
    made.resume()
    assert becomes(tmp_path, "S")
    first = (tmp_path / "pid").read_text()
    made.reset()
    assert made.alive() and (tmp_path / "pid").read_text() != first
    made.cut()
    assert not made.alive()
    assert machine(pause="").pause() == {}, "without a command there is no pause"


RESTORE = "if test -e {run}/broken; then echo no such snapshot >&2; exit 1; fi; echo restored >> {run}/log"


def test_a_machine_that_was_saved_is_restored_and_else_started_again(tmp_path: Path, machine: Any) -> None:
    made = machine(save="echo saved >> {run}/log", restore=RESTORE)
    made.start()
    first = (tmp_path / "pid").read_text()
    assert made.reset() is False and (tmp_path / "pid").read_text() != first, "nothing is saved yet"
    made.save()
    second = (tmp_path / "pid").read_text()
    assert made.reset() is True and (tmp_path / "pid").read_text() == second
    assert (tmp_path / "log").read_text().split() == ["started", "started", "saved", "restored"]
    assert made.not_restored == ""
    (tmp_path / "broken").touch()
    assert made.reset() is False and (tmp_path / "pid").read_text() != second, (
        "what cannot be restored is started again"
    )
    assert made.not_restored == "no such snapshot"
    made.save()
    made.cut()
    assert made.reset() is False and made.alive(), "a machine that has ended has no state to restore"
    with pytest.raises(ValidationError, match=r"give save and restore together"):
        MachineTable(start="x", stop="x", alive="x", save="x")


def test_the_exported_directory_is_made_and_removed(tmp_path: Path, machine: Any) -> None:
    made = machine()
    made.make_backing()
    assert (tmp_path / "a share" / "made").exists()
    with pytest.raises(InfrastructureError, match=r"backing.make, entry 1 failed on this host with status 1: .*exists"):
        made.make_backing()
    assert made.remove_backing() == ["false: it said nothing"]
    assert not (tmp_path / "a share").exists()


def test_property_cases_mount_by_the_commands_of_the_target(tmp_path: Path) -> None:
    log = tmp_path / "log"
    backing = BackingTable(
        bind=f"echo bind {{dir}} {{flag}} >> {log}",
        small=f"echo small {{dir}} {{size}} >> {log}",
        unmount=f"echo unmount {{dir}} >> {log}",
        flags={"nodev": "nodevices", "noatime": ""},
    )
    commands = MachineTable(start="true", stop="true", alive="true")
    made = Machine(commands, backing, LocalHost(), {})
    assert made.mounts and not Machine(commands, BackingTable(), LocalHost(), {}).mounts
    made.bind("/a b", "nodev")
    made.small("/t", "1m")
    made.unmount("/t")
    assert log.read_text().splitlines() == ["bind /a b nodevices", "small /t 1m", "unmount /t"]
    with pytest.raises(Undrivable, match=r"no such flag"):
        made.bind("/a", "noatime")
    with pytest.raises(Undrivable, match=r"false /t: it said nothing"):
        Machine(commands, backing.model_copy(update={"small": "false {dir}"}), LocalHost(), {}).small("/t", "1m")
    with pytest.raises(ValidationError, match=r"give bind, small and unmount together"):
        BackingTable(bind="x")


def test_a_machine_that_does_not_start_is_one_line_with_the_command(machine: Any) -> None:
    with pytest.raises(
        InfrastructureError, match=r"machine.start failed on this host with status 3: no disk here"
    ) as e:
        machine(start="echo no disk here >&2; exit 3").start()
    assert "try by hand: echo no disk here" in str(e.value)
    with pytest.raises(InfrastructureError, match=r"the machine ended when it had been started: started"):
        machine(start="echo started > {run}/log").start()


def dialogue(table: dict[str, Any], log: Path) -> str:
    console = Console(ConsoleTable.model_validate({"step_seconds": PATIENT, **table}), {}, log)
    console.open()
    try:
        console.hold_dialogue()
        console._reader.join(PATIENT)  # type: ignore[union-attr]
    finally:
        console.close()
    return log.read_text()


STEPS = [{"expect": "log.n:", "send": "root"}]


def test_a_console_by_its_command(tmp_path: Path) -> None:
    script = "printf 'login: '; read name; echo hello $name; echo 'Kernel panic - not syncing: x'"
    assert "hello root" in dialogue({"command": script, "steps": STEPS}, tmp_path / "log")


@pytest.mark.parametrize("way", ["socket", "telnet"])
def test_a_console_at_a_socket(tmp_path: Path, way: str) -> None:
    with socket.socket(socket.AF_UNIX if way == "socket" else socket.AF_INET) as listener:
        listener.bind(str(tmp_path / "s") if way == "socket" else ("127.0.0.1", 0))
        listener.listen()
        where = str(tmp_path / "s") if way == "socket" else f"127.0.0.1:{listener.getsockname()[1]}"

        def serve() -> None:
            with listener.accept()[0] as guest:
                guest.sendall(b"login: ")
                guest.sendall(b"hello " + guest.recv(100))

        thread = threading.Thread(target=serve)
        thread.start()
        assert "hello root" in dialogue({way: where, "steps": STEPS}, tmp_path / "log")
        thread.join()


def test_a_console_at_a_serial_device(tmp_path: Path) -> None:
    ours, device = os.openpty()
    os.write(ours, b"login: \n")
    console = Console(ConsoleTable(serial=os.ttyname(device)), {}, tmp_path / "log")
    console.open()
    console._child.expect(b"login:", timeout=PATIENT)
    console.close()
    assert "login:" in (tmp_path / "log").read_text()
    os.close(ours)
    os.close(device)


def test_a_console_that_says_something_else_is_one_line(tmp_path: Path) -> None:
    table = {"command": "echo nothing here", "steps": STEPS}
    with pytest.raises(InfrastructureError, match=r"console.steps, entry 1: the console ended"):
        dialogue(table, tmp_path / "log")
    with pytest.raises(InfrastructureError, match=r"'log.n:' was not read within 0 s"):
        dialogue({**table, "command": "sleep 60", "step_seconds": 0.1}, tmp_path / "log")
    with pytest.raises(InfrastructureError, match=r"the guest's console cannot be opened"):
        dialogue({"socket": str(tmp_path / "none")}, tmp_path / "log")
