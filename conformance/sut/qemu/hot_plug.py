"""QEMU's devices, unplugged from a running guest and plugged in again.

Source: QEMU's qapi/qdev.json: device_del requests the removal, which the guest completes; DEVICE_DELETED says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.errors import InfrastructureError
from conformance.sut.parts.power import NoOutages, ServerOutages
from conformance.sut.parts.serving import Serving
from conformance.vfs.deployment import Outages
from guests.host.waiting import happens
from guests.machines.qemu.machine import QemuMachine

_LIMIT = 60.0
"""Seconds that the guest has to release a device that nothing uses, or to find one; it takes about one."""
_ANONYMOUS = "/machine/peripheral-anon"
"""Where QEMU keeps devices without an id."""
_NAMED = "/machine/peripheral"


class HotPlug(NoOutages):
    """The devices of one start of a machine, and the servers behind them if they are processes of their own."""

    def __init__(
        self,
        machine: QemuMachine,
        path: Callable[[int], str],
        add: Callable[[int], str],
        found: Callable[[int], bool],
        serving: Serving | None = None,
    ) -> None:
        """`path`: where the device of a share is among QEMU's objects; `add` plugs one in and returns where that is;
        `found`: whether the guest's driver has it.
        """
        self._machine, self._path, self._add, self._found = machine, path, add, found
        self._servers: Outages = ServerOutages(serving) if serving is not None else NoOutages()
        self._paths: dict[int, str] = {}
        self._requested: dict[int, int] = {}
        """Share -> how many events there were when its removal was requested, until it is plugged in again."""

    def pause(self, number: int) -> None:
        self._servers.pause(number)

    def kill(self, number: int) -> None:
        self._servers.kill(number)

    def restart(self, number: int) -> None:
        self._servers.restart(number)

    def unplug(self, number: int) -> None:
        if number not in self._paths:
            self._paths[number] = self._path(number)
        self._requested[number] = len(self._machine.events())
        self._machine.qmp("device_del", id=self._paths[number])

    def unplugged(self, number: int) -> bool:
        since = self._machine.events()[self._requested[number] :]
        deleted = [event["data"].get("path") for event in since if event["event"] == "DEVICE_DELETED"]
        return self._paths[number] in deleted

    def plug(self, number: int) -> bool:
        if self._requested.pop(number, None) is None:
            return True
        self._paths[number] = self._add(number)
        if not happens(lambda: self._found(number), _LIMIT, 0.1):
            raise InfrastructureError(f"the guest's driver did not find {self._paths[number]}, which was plugged in")
        return True

    def restore(self, number: int) -> None:
        self._servers.restore(number)
        if number in self._requested and happens(lambda: self.unplugged(number), _LIMIT, 0.1):
            self.plug(number)


def without_id(machine: QemuMachine, kind: str, name: str, value: str) -> str:
    """Where the device of that kind is whose property `name` has that value. Raises InfrastructureError."""
    for entry in machine.qmp("qom-list", path=_ANONYMOUS):
        path = f"{_ANONYMOUS}/{entry['name']}"
        if entry["type"] == f"child<{kind}>" and machine.qmp("qom-get", path=path, property=name) == value:
            return path
    raise InfrastructureError(f"QEMU has no {kind} with {name}={value}")


def with_id(machine: QemuMachine, name: str, **properties: Any) -> str:
    """Plug a device in under that id; returns where it is. Raises InfrastructureError."""
    machine.qmp("device_add", id=name, **properties)
    return f"{_NAMED}/{name}"
