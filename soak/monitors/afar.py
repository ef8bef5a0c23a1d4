"""The host of the exported directory, if that is another machine: the series of this host, by one query."""

from __future__ import annotations

import time

from soak.inside import elsewhere
from soak.outside import Outside


class AfarMonitor:
    """The processes that serve the share, their machine, and the exported file system; see LoadMonitor, too."""

    def __init__(self, outside: Outside, processes: dict[str, int], guest_mb: int) -> None:
        self._outside, self._processes, self._guest_mb = outside, processes, guest_mb
        self._sampled = time.monotonic()
        self._now, self._last = 0.0, dict[str, float]()

    @property
    def age(self) -> float:
        """Seconds since the last sample."""
        return time.monotonic() - self._sampled

    def look(self) -> None:
        """See LoadMonitor: does nothing between samples, because it would cost a round trip."""

    def sample(self) -> dict[str, float]:
        """See Monitor. The numbers are for the time since the last sample."""
        values = self._outside.ask(elsewhere.look, self._processes, self._guest_mb)
        self._sampled, now = time.monotonic(), values.pop("now_s")
        counted = {key.removesuffix("_s"): values.pop(key) for key in list(values) if key.endswith("_s")}
        if self._now:
            passed = now - self._now
            values |= {key: max(0.0, (counted[key] - before) / passed) for key, before in self._last.items()}
        self._now, self._last = now, counted
        return values
