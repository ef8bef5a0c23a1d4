"""Runs ring cases on one device and judges them; the counterpart of `conformance.run.wire`.

`RingSession` is a `WireSession` whose cases get a `Ring`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from conformance.case import Case
from conformance.checks import collecting, ended, findings_of
from conformance.errors import TargetDied, Undrivable
from conformance.raw.ring import DYING, Ring, trespassed
from conformance.raw.server import DeviceServer
from conformance.run.session import Make, WireOutcome, WireSession
from conformance.run.wire import WireRunner
from conformance.vfs.trace import Crossed
from conformance.virtio.device import DeviceGone


class RingSession(WireSession):
    """One worker's device."""

    def device_server(self) -> DeviceServer:
        """The server as one with a device. Undrivable where it has none."""
        if not hasattr(self.server, "device"):
            raise Undrivable("no rings: this target's transport is a socket")
        return cast(DeviceServer, self.server)

    def probe(self) -> None:
        """Check that a small piece of work succeeds on the device; ring cases do not depend on messages."""
        self._works = True
        self._works = self.trouble() is None
        self._works = self._alive() and self._works

    def run(self, case: Case, parameters: str, body: Callable[[Any], None]) -> WireOutcome:
        """Run `body` on the device, reset, with its memory filled; a crash or a hang is charged to it."""
        begun, mark = time.monotonic(), self.server.log_size()
        ring: Ring | None = None
        raised: BaseException | None = None
        with collecting() as found:
            try:
                ring = Ring(self, self.device_server().device(), case.seconds * self.patience)
                body(ring)
            except DeviceGone as error:
                time.sleep(DYING)
                how = self.server.death() or str(error)
                raised = TargetDied(how, values={"how": how})
            except Exception as error:  # noqa: BLE001 - every end of a case is judged by the caller
                raised = error
        raised = ended(found, raised)
        if ring is not None:
            raised = self._checked(ring, raised)
        if not isinstance(raised, Undrivable):
            raised = self._after(case, raised, mark)
        lines = ring.lines if ring is not None else []
        crossed = Crossed(tuple(lines), {}, lost=False)
        return WireOutcome(raised, crossed, self.server.log(mark)[-4000:], time.monotonic() - begun)

    def _checked(self, ring: Ring, raised: BaseException | None) -> BaseException | None:
        try:
            trespass = ring.memory.trespass()
        except DeviceGone:
            return raised
        if trespass is None:
            return raised
        return ended([trespassed(trespass), *findings_of(raised)], None if findings_of(raised) else raised)


class RingRunner(WireRunner):
    """One worker's device, and the verdicts of cases on it."""

    argument = layer = "ring"

    def _session(self, make: Make, run_dir: Path) -> WireSession:
        return RingSession(make, run_dir, self.target.profile)
