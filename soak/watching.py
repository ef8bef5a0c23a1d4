"""Everything that is monitored in one session: the target's processes, the guest, their host, and the logs."""

from __future__ import annotations

import contextlib
import os

from conformance.vfs.deployment import Deployment
from soak.monitors import Monitor
from soak.monitors.afar import AfarMonitor
from soak.monitors.hostside import ExportMonitor, HostMonitor, LogWatch
from soak.monitors.inside import InsideMonitor
from soak.monitors.load import LoadMonitor
from soak.monitors.process import ProcessMonitor
from soak.outside import Outside


class Watching:
    """The monitors of one start of the target; after a restart there is a new one.

    If the kernel inside is this host's (`guest_mb` is 0), its memory is not judged.
    """

    def __init__(self, deployment: Deployment, inside_roots: list[str], outside: Outside, seconds: float) -> None:
        processes, guest_mb = deployment.serving(), deployment.guest_mb
        self.inside = InsideMonitor(deployment, inside_roots, seconds, guest=guest_mb > 0)
        self.load: LoadMonitor | AfarMonitor
        self._monitors: list[Monitor] = [ProcessMonitor("runner", os.getpid(), detail=False), self.inside]
        if outside.host.local:
            self.load = LoadMonitor()
            self._monitors += [ProcessMonitor(name, pid, guest_mb) for name, pid in processes.items()]
            self._monitors += [HostMonitor(lambda: (*processes.values(), os.getpid())), ExportMonitor(outside.here)]
        else:
            self.load = AfarMonitor(outside, processes, guest_mb)
        self._monitors.append(self.load)
        self._logs = {name: LogWatch(path) for name, path in deployment.logs().items() if name != "console"}

    def sample(self) -> dict[str, float]:
        """The numbers of all monitors; a monitor whose source is gone gives none."""
        values: dict[str, float] = {}
        for monitor in self._monitors:
            with contextlib.suppress(OSError):
                values.update(monitor.sample())
        return values

    def log_lines(self) -> list[tuple[str, str]]:
        """(log, line) of the target's new log lines on this host."""
        return [(name, line) for name, watch in self._logs.items() for line in watch.lines()]

    def kill(self) -> None:
        """End what runs in the guest."""
        self.inside.program.kill()
