"""A virtual machine started by commands, whose share is driven as by `attach`.

The host is this one or another over SSH. The suite starts and ends the machine, so it can reset a guest that hangs and
mount the share again with other options.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from conformance.errors import InfrastructureError
from conformance.sut.attach.attachment import Attachment
from conformance.sut.attach.deployment import AttachDeployment
from conformance.sut.hypervisor.console import Console
from conformance.sut.hypervisor.machine import Machine
from conformance.sut.hypervisor.tables import HypervisorTable, filled
from conformance.sut.parts.linux_guest import clocks
from conformance.vfs.deployment import Progress
from guests.access import destination
from guests.agent.clock import GuestClock, Rate, rate_between, wrong_clock
from guests.agent.hosts import Host, reach, uptime
from guests.machines.console import ConsoleWatch

_FREE_PORT = "python3 -c 'import socket; s = socket.socket(); s.bind((\"127.0.0.1\", 0)); print(s.getsockname()[1])'"
_LOOK = 1.0
"""Seconds between two attempts to reach a guest that boots, at least."""
_BOOTS = 3
"""Boots until a guest's kernel has measured the speed of its clock right; on an idle host the first does."""
_CLOCK = 1.0
"""Seconds over which that speed is looked at."""


class HypervisorDeployment(AttachDeployment):
    """One machine with one share."""

    _no_host_mounts = "[backing] has no bind, small and unmount"

    def __init__(
        self,
        target: HypervisorTable,
        attachment: Attachment,
        guest: str,
        values: dict[str, str],
        run_dir: Path,
        progress: Progress,
        *,
        cases: bool = True,
    ) -> None:
        super().__init__(target, attachment, run_dir, progress, cases=cases)
        self.own, self._values = target, values
        self._guest_text = guest
        """The guest's destination, in which {address} and {port} may stand."""
        self._run = f"/tmp/assay9-{secrets.token_hex(4)}"
        self._console_log = run_dir / f"{self.name}-console.log"
        self._watch = ConsoleWatch(self._console_log)
        self._console: Console | None = None
        self._operator: Host | None = None
        """The host on which the commands run."""
        self._machine: Machine | None = None

    @property
    def vm(self) -> Machine:
        """The machine. Raises InfrastructureError before it is started."""
        if self._machine is None:
            raise InfrastructureError("the machine is not started")
        return self._machine

    def start(self) -> None:
        try:
            self._operator = reach(self.attached.outside.host, self.attached.ssh_config)
            self._prepare(self._operator)
            self.vm.make_backing()
            self.progress(f"starting {self._values['name']} on {self._operator.where}")
            self.vm.start()
            self._await_booted()
            self.vm.save()
        except BaseException:
            self.stop()
            raise
        self.version = self.vm.version() or self.version
        super().start()  # stops everything if it fails

    def _learn(self) -> None:
        super()._learn()
        if self.vm.mounts:
            self.host_mounts, self.features = self.vm, self.features | {"mount-namespace"}

    def _prepare(self, host: Host) -> None:
        made = host.run(["mkdir", "-m", "700", self._run])
        if not made.ok:
            raise InfrastructureError(f"{host.where}: mkdir {self._run}: {made.stderr.strip()}")
        port = host.run(_FREE_PORT).stdout.strip() if self._needs_port() else ""
        self._values = {**self._values, "run": self._run, **({"port": port} if port else {})}
        self.power = self._machine = Machine(self.own.machine, self.own.backing, host, self._values)
        if self.own.console is not None:
            self._console = Console(
                self.own.console, self._values, self._console_log, self.attached.outside.host, self.attached.ssh_config
            )

    def _needs_port(self) -> bool:
        texts = [text for _, text in self.own.commands()]
        return "port" not in self._values and any("{port}" in text for text in (*texts, self._guest_text))

    def _await_booted(self) -> None:
        """Wait for the guest; one whose clock runs at the wrong speed boots again.

        Raises InfrastructureError, and WrongClock where no boot gets it right.
        """
        for left in reversed(range(_BOOTS)):
            rate = self._await_guest()
            if not rate.wrong:
                return
            if not left:
                raise wrong_clock(rate)
            self.progress(f"the guest's clock runs {rate}, so that the guest is started again")
            self._close_console()
            self.vm.boot_again()

    def _clock_rate(self) -> Rate:
        """How fast the guest's clock runs, roughly: each look is a command over SSH. Raises InfrastructureError."""
        host = reach(self.attached.guest, self.attached.ssh_config)
        try:
            clock = uptime(host)
            first = clock.glance()
            time.sleep(_CLOCK)
            return rate_between(first, clock.glance())
        except TimeoutError as error:
            raise InfrastructureError(str(error)) from None
        finally:
            host.close()

    def _await_guest(self) -> Rate:
        """Open the console, hold its dialogue, and wait until SSH answers; how fast the guest's clock runs.

        Raises InfrastructureError.
        """
        if self._console is not None:
            self._console.open()
            self._console.hold_dialogue()
        limit = time.monotonic() + self.own.machine.boot_seconds
        why = "it has no address"
        while True:
            began = time.monotonic()
            try:
                self.attached = replace(self.attached, guest=self._destination())
                return self._clock_rate()
            except InfrastructureError as error:
                why = str(error)
            if not self.vm.alive():
                raise InfrastructureError(
                    f"the machine ended before its guest answered{self.vm.last_words()}{self._last_line()}"
                )
            if time.monotonic() > limit:
                raise InfrastructureError(
                    f"the guest did not answer SSH within {self.own.machine.boot_seconds:.0f} s: {why}"
                    f"{self._last_line()}",
                    "see its console; machine.boot_seconds says how long it may take",
                )
            # an attempt costs a jump host much of the processor time that the guest needs to boot
            time.sleep(max(_LOOK, time.monotonic() - began))

    def _destination(self) -> destination.Destination:
        text = self._guest_text
        if "{address}" in text:
            address = self.vm.address()
            if not address:
                raise InfrastructureError("machine.address prints none yet")
            text = text.replace("{address}", address)
        return destination.parse(text.replace("{port}", self._values.get("port", "")), "share.guest")

    def _memory_mb(self) -> int:
        given = filled(self.own.machine.memory_mb, self._values)
        return int(given) if given.isdigit() else super()._memory_mb()

    def _last_line(self) -> str:
        lines = self._watch.text_since(0).strip().splitlines()
        return f"; the console's last line: {lines[-1][:200]}" if lines else ""

    def started_by(self) -> list[str]:
        return [self._machine.start_command] if self._machine is not None else []

    # ---- its description

    def environment(self) -> dict[str, Any]:
        named, version = self.attached.implementation, self.version
        own = {"argv": [self.vm.start_command], "hypervisor": version}
        own["target_version"] = version if named in version else f"{named} ({version})"
        return {**super().environment(), **{key: value for key, value in own.items() if value}}

    def serving(self) -> dict[str, int]:
        pid = self._machine.pid() if self._machine is not None else 0
        return {"device": pid} if pid else {}

    def logs(self) -> dict[str, Path]:
        return {"console": self._console_log} if self._console is not None else {}

    def mark(self) -> Any:
        return self._watch.mark()

    def excerpts(self, mark: Any) -> list[tuple[str, str]]:
        return [(f"console: {event.kind}", event.text) for event in self._watch.since(mark)]

    # ---- its health, and recovery

    def trouble(self) -> str | None:
        why = super().trouble()
        if why is not None and not self.vm.alive():
            return f"the machine ended{self.vm.last_words()}"
        return why

    def recover(self) -> None:
        """See Deployment: the machine is reset, and the guest has a new connection."""
        self._close_links()
        if (guest := self._hosts.pop("guest", None)) is not None:
            guest.close()  # it may not have noticed that the guest is gone
        self._close_console()
        self._restored = self.vm.reset()
        if self.vm.not_restored:
            self.progress(f"machine.restore failed, so that the machine was reset: {self.vm.not_restored}")
        if self._restored:
            self._await_guest()
        else:
            self._await_booted()
            self.vm.save()
        super().recover()
        if self._restored:
            GuestClock(partial(clocks, self.inside)).set()

    def _close_console(self) -> None:
        if self._console is not None:
            self._console.close()

    def stop(self) -> None:
        if self._machine is None or "guest" in self._hosts:
            super().stop()
        machine, self._machine = self._machine, None
        left: list[str] = []
        if machine is not None:
            try:
                machine.stop()
            except InfrastructureError as error:
                left.append(str(error))
            left += machine.remove_backing()
        self._close_console()
        if self._operator is not None:
            with contextlib.suppress(TimeoutError):
                self._operator.run(["rm", "-rf", self._run])
            self._operator.close()
            self._operator = None
        if left:
            self.progress(f"what could not be undone: {'; '.join(left)}")
