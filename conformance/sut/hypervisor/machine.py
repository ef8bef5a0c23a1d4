"""A virtual machine that shell commands start, stop and reset, on this host or another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.errors import InfrastructureError, Undrivable
from conformance.sut.hypervisor.tables import BackingTable, MachineTable, command_of
from conformance.vfs.deployment import HostMounts, Power
from guests.access.shell import Result
from guests.agent.hosts import COMMAND, Host
from guests.host.waiting import happens

_ENDS = 60.0
"""Seconds that a machine has to be gone after it was stopped."""


class Machine(HostMounts, Power):
    """The machine of one target. Every command runs on `host`; the error for one that fails quotes its output."""

    def __init__(self, table: MachineTable, backing: BackingTable, host: Host, values: Mapping[str, str]) -> None:
        self._table, self._backing, self._host, self._values = table, backing, host, dict(values)
        self._paused = self._saved = False
        self.not_restored = ""
        """Why the last reset could not restore what was saved; "" where nothing was to be restored."""

    @property
    def start_command(self) -> str:
        """For the record."""
        return command_of(self._table.start, self._values)

    def make_backing(self) -> None:
        """Make the exported directory. Raises InfrastructureError."""
        for number, command in enumerate(self._backing.make, 1):
            self._must(f"backing.make, entry {number}", command)

    def remove_backing(self) -> list[str]:
        """Remove it. Returns what could not be removed, in words."""
        done = [(command, self._run(command)) for command in self._backing.remove]
        return [f"{command_of(command, self._values)}: {said(result)}" for command, result in done if not result.ok]

    def start(self) -> None:
        """Stop whatever an earlier run left of it, and start it. Raises InfrastructureError."""
        if self.alive():
            self.stop()
        self._must("machine.start", self._table.start)
        if not self.alive():
            raise InfrastructureError(
                f"the machine ended when it had been started{self.last_words()}",
                "run the command of machine.start by hand; machine.alive must end with status 0 while it runs",
            )

    def alive(self) -> bool:
        """Whether the hypervisor is running it."""
        return self._run(self._table.alive).ok

    def stop(self) -> None:
        """End it at once. Raises InfrastructureError if it keeps running."""
        self.resume()
        done = self._run(self._table.stop)
        if not happens(lambda: not self.alive(), _ENDS, 0.2):
            raise InfrastructureError(f"machine.stop does not end the machine: {said(done)}", "stop it by hand")

    def save(self) -> None:
        """Save its state, if the target has a command for that. Raises InfrastructureError."""
        if self._table.save:
            self._must("machine.save", self._table.save)
            self._saved = True

    def reset(self) -> bool:
        """Start it afresh, whatever state it is in. True: it is in the saved state, with the clock of that moment."""
        self.resume()
        self.not_restored = ""
        if self._saved and self.alive():
            done = self._run(self._table.restore)
            if done.ok:
                return True
            self.not_restored = said(done)
        self.boot_again()
        return False

    def boot_again(self) -> None:
        """A fresh start; what was saved before is of no use any more. Raises InfrastructureError."""
        self._saved = False
        if self._table.reset and self.alive():
            self._must("machine.reset", self._table.reset)
            return
        self.stop()
        self.start()

    def address(self) -> str:
        """The guest's address, "" while it has none."""
        done = self._run(self._table.address)
        words = done.stdout.split()
        return words[0] if done.ok and words else ""

    def version(self) -> str:
        """The hypervisor's version, "" if the target has no command for it."""
        done = self._run(self._table.version) if self._table.version else None
        lines = done.stdout.strip().splitlines() if done is not None and done.ok else []
        return lines[0].strip()[:80] if lines else ""

    def pid(self) -> int:
        """The process that serves the share, on the machine's host; 0 if unknown."""
        done = self._run(self._table.pid) if self._table.pid else None
        words = done.stdout.split() if done is not None and done.ok else []
        return int(words[0]) if words and words[0].isdigit() else 0

    def last_words(self) -> str:
        """The end of the hypervisor's output, to append to a sentence."""
        done = self._run(self._table.log) if self._table.log else None
        words = " ".join(done.stdout.split())[-400:] if done is not None else ""
        return f": {words}" if words else ""

    # ---- see conformance.vfs.deployment.HostMounts

    @property
    def mounts(self) -> bool:
        """Whether the target has commands for mounts on the host."""
        return bool(self._backing.bind)

    def bind(self, path: str, flag: str) -> None:
        flag = self._backing.flags.get(flag, flag)
        if not flag:
            raise Undrivable("the host's mounts have no such flag")
        self._mount(self._backing.bind, dir=path, flag=flag)

    def small(self, path: str, size: str) -> None:
        self._mount(self._backing.small, dir=path, size=size)

    def dataset(self, path: str, setting: str) -> None:
        if not self._backing.dataset:
            raise Undrivable("[backing] has no dataset: the host makes no file systems with properties")
        self._mount(self._backing.dataset, dir=path, property=setting)

    def unmount(self, path: str) -> None:
        done = self._run(self._backing.unmount, dir=path)
        if not done.ok:
            raise InfrastructureError(f"backing.unmount failed on {self._host.where}: {said(done)}", f"unmount {path}")

    def _mount(self, command: str, **more: str) -> None:
        done = self._run(command, **more)
        if not done.ok:
            raise Undrivable(f"{command_of(command, {**self._values, **more})}: {said(done)}")

    # ---- see conformance.vfs.deployment.Power

    def pause(self) -> dict[str, Any]:
        if not (self._table.pause and self._table.resume):
            return {}
        self._must("machine.pause", self._table.pause)
        self._paused = True
        return {"command": command_of(self._table.pause, self._values)}

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._must("machine.resume", self._table.resume)

    def cut(self) -> None:
        """See Power: ends the machine at once."""
        self.stop()

    def _must(self, place: str, command: str) -> None:
        done = self._run(command)
        if not done.ok:
            raise InfrastructureError(
                f"{place} failed on {self._host.where} with status {done.status}: {said(done)}",
                f"try by hand: {command_of(command, self._values)}",
            )

    def _run(self, command: str, **more: str) -> Result:
        try:
            return self._host.run(command_of(command, {**self._values, **more}))
        except TimeoutError:
            return Result(-1, "", f"it did not end within {COMMAND:.0f} s")


def said(done: Result) -> str:
    """The end of what a command printed, on one line."""
    return " ".join((done.stderr or done.stdout).split())[-300:] or "it said nothing"
