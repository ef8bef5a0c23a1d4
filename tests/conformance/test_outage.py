"""Devices that are unplugged and plugged in again, as QEMU reports them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from conformance.errors import Undrivable
from conformance.sut.parts.power import NoOutages
from conformance.sut.qemu.hot_plug import HotPlug, without_id
from guests.errors import InfrastructureError
from guests.machines.qemu.machine import QemuMachine


class Machine:
    """What HotPlug uses of a QemuMachine."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = [{"event": "DEVICE_DELETED", "data": {"path": "/old/device3"}}]
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def events(self) -> list[dict[str, Any]]:
        return list(self.said)

    def qmp(self, command: str, **arguments: Any) -> Any:
        self.requests.append((command, arguments))
        if command == "qom-list":
            return [{"name": "device[0]", "type": "child<pvpanic>"}, {"name": "device[1]", "type": "child<disk>"}]
        return {"/machine/peripheral-anon/device[1]": "share3"}.get(arguments.get("path", ""))

    def released(self, path: str) -> None:
        self.said.append({"event": "DEVICE_DELETED", "data": {"device": "", "path": path}})


def plugged(machine: Machine) -> HotPlug:
    return HotPlug(
        cast(QemuMachine, machine),
        path=lambda number: f"/old/device{number}",
        add=lambda number: f"/new/device{number}",
        found=lambda _: True,
    )


def test_a_device_is_gone_once_qemu_says_so_after_the_request() -> None:
    machine = Machine()
    outages = plugged(machine)
    outages.unplug(3)
    assert machine.requests == [("device_del", {"id": "/old/device3"})]
    assert not outages.unplugged(3), "an event from before the request counts"
    machine.released("/old/device2")
    assert not outages.unplugged(3)
    machine.released("/old/device3")
    assert outages.unplugged(3)
    assert outages.plug(3)
    outages.unplug(3)
    assert machine.requests[-1] == ("device_del", {"id": "/new/device3"})


def test_a_device_that_a_case_left_out_is_plugged_in_once() -> None:
    machine, added = Machine(), []
    outages = HotPlug(
        cast(QemuMachine, machine),
        path=lambda number: f"/old/device{number}",
        add=lambda number: added.append(number) or f"/new/device{number}",  # type: ignore[func-returns-value]
        found=lambda _: True,
    )
    outages.restore(3)
    assert added == []
    outages.unplug(3)
    machine.released("/old/device3")
    outages.restore(3)
    outages.restore(3)
    assert added == [3]


def test_a_hypervisor_s_own_device_has_no_server_to_kill() -> None:
    with pytest.raises(Undrivable, match="a process of its own"):
        plugged(Machine()).kill(3)
    with pytest.raises(Undrivable, match="unplug"):
        NoOutages().unplug(3)


def test_a_device_without_an_id_is_found_by_its_tag() -> None:
    machine = cast(QemuMachine, Machine())
    assert without_id(machine, "disk", "mount_tag", "share3") == "/machine/peripheral-anon/device[1]"
    with pytest.raises(InfrastructureError, match="no disk with mount_tag=share4"):
        without_id(machine, "disk", "mount_tag", "share4")
