"""The exported directory of the bhyve targets on a simulated ZFS: what the commands make, set, mount and remove."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.errors import InfrastructureError, Undrivable
from conformance.sut.hypervisor.machine import Machine
from conformance.sut.hypervisor.tables import BackingTable, HypervisorTarget
from guests.agent.hosts import LocalHost
from tests.targets import loaded

PROGRAM = Path(__file__).parent / "zfs_program.py"
POOL: dict[str, dict[str, str]] = {"tank": {}, "zroot": {}}

MADE = {"assay9:made": "yes"}
"""The property of a data set that the suite has made."""


@dataclass(frozen=True)
class Zfs:
    """The simulated host of one target."""

    state: Path
    log: Path
    path: Path
    """The exported directory."""
    machine: Machine
    dataset: str

    @property
    def sets(self) -> dict[str, dict[str, str]]:
        """Data set -> its properties."""
        found: dict[str, dict[str, str]] = json.loads(self.state.read_text())
        return found

    def mounts(self) -> list[str]:
        """The calls of mount and umount so far."""
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Zfs]:
    tools, state, log = tmp_path / "bin", tmp_path / "zfs.json", tmp_path / "mounts"
    tools.mkdir()
    state.write_text(json.dumps(POOL))
    scripts = {"zfs": f'exec {sys.executable} {PROGRAM} "$@"'}
    scripts |= {name: f'echo {name} "$@" >> {log}' for name in ("mount", "umount")}
    for name, text in scripts.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    monkeypatch.setenv("ZFS_STATE", str(state))

    def made(name: str) -> Zfs:
        target = loaded(name, HypervisorTarget)
        path = tmp_path / "pool" / "share"
        values = {**target.values, "path": str(path), "name": "vm", "tag": "share0", "run": str(tmp_path)}
        return Zfs(
            state, log, path, Machine(target.machine, target.backing, LocalHost(), values), target.values["dataset"]
        )

    return made


@pytest.mark.parametrize("left", [False, True], ids=["fresh", "left by a run that was killed"])
def test_the_data_set_has_its_properties(host: Callable[[str], Zfs], left: bool) -> None:
    """If an earlier run had left the data set, `zfs create -p -o quota=4G` set no quota at all."""
    zfs = host("bhyve-illumos")
    if left:
        zfs.state.write_text(json.dumps(POOL | {zfs.dataset: MADE}))
    zfs.machine.make_backing()
    top = str(zfs.path.parent)
    assert zfs.sets[zfs.dataset] == MADE | {"quota": "4G", "setuid": "off", "devices": "off", "mountpoint": top}
    assert zfs.path.is_dir()
    assert zfs.machine.remove_backing() == [] and zfs.sets == POOL


@pytest.mark.parametrize("name", ["bhyve-illumos", "bhyve-freebsd"])
def test_a_data_set_of_the_users_is_neither_changed_nor_removed(host: Callable[[str], Zfs], name: str) -> None:
    """A run with an existing data set changed its mount point, and destroyed it with everything below at its end."""
    zfs = host(name)
    theirs: dict[str, dict[str, str]] = POOL | {zfs.dataset: {"mountpoint": "/data"}, f"{zfs.dataset}/home": {}}
    zfs.state.write_text(json.dumps(theirs))
    with pytest.raises(InfrastructureError, match=f"{zfs.dataset} is not of assay9: give a new name"):
        zfs.machine.make_backing()
    assert zfs.machine.remove_backing() == [] and zfs.sets == theirs


@pytest.mark.parametrize("setting", ["quota=2m", "setuid=off", "devices=off"])
def test_a_case_gets_a_data_set_with_a_property_and_gives_it_back(host: Callable[[str], Zfs], setting: str) -> None:
    zfs = host("bhyve-illumos")
    zfs.machine.make_backing()
    there = zfs.path / "assay9-12345678" / "DATASET-001" / "d"
    there.mkdir(parents=True)
    zfs.machine.dataset(str(there), setting)
    name, _, value = setting.partition("=")
    assert zfs.sets[f"{zfs.dataset}/d"] == {name: value, "mountpoint": str(there)}
    zfs.machine.unmount(str(there))
    assert list(zfs.sets) == [*POOL, zfs.dataset] and zfs.mounts() == []


def test_what_is_no_data_set_is_unmounted_and_no_data_set_is_touched(host: Callable[[str], Zfs]) -> None:
    zfs = host("bhyve-illumos")
    zfs.machine.make_backing()
    before, there = zfs.sets, str(zfs.path)
    zfs.machine.bind(there, "nodev")
    zfs.machine.unmount(there)
    assert zfs.mounts() == [f"mount -F lofs -o nodevices {there} {there}", f"umount -f {there}"]
    assert zfs.sets == before


def test_a_property_that_the_host_has_not_makes_the_case_undrivable(
    host: Callable[[str], Zfs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FreeBSD's zfs has no `devices`."""
    monkeypatch.setenv("NO_PROPERTY", "devices")
    zfs = host("bhyve-freebsd")
    zfs.machine.make_backing()
    assert zfs.sets[zfs.dataset]["quota"] == "4G"
    with pytest.raises(Undrivable, match="bad property"):
        zfs.machine.dataset(str(zfs.path), "devices=off")
    assert list(zfs.sets) == [*POOL, zfs.dataset]


def test_without_the_command_such_cases_are_undrivable(host: Callable[[str], Zfs]) -> None:
    target = loaded("kvmtool", HypervisorTarget)
    machine = Machine(target.machine, target.backing, LocalHost(), {})
    with pytest.raises(Undrivable, match=r"\[backing\] has no dataset"):
        machine.dataset("/srv/d", "quota=2m")
    with pytest.raises(ValueError, match="dataset needs bind, small and unmount"):
        BackingTable(dataset="zfs create {dir}")
