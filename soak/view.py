"""What a person sees while a soak runs: a few lines that change on a terminal, plain lines elsewhere.

While one call keeps the runner busy (a boot, a build outside, a guest that does not answer) a thread shows what that is
and for how long: on a terminal every second, elsewhere one line a minute.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from soak.plan import duration

PLAIN = 60.0
"""Seconds between two plain lines of progress."""
OFTEN = 1.0
"""Seconds between two pictures on a terminal."""

Jobs = list[tuple[str, tuple[int, int] | None, float]]
"""(name, (number, ...) of the iteration in progress, its work so far)"""


class View:
    """Writes to standard error: standard output is for results."""

    def __init__(self, stream: TextIO | None = None, terminal: bool | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty() if terminal is None else terminal
        self._console = Console(file=self._stream, force_terminal=self._terminal, highlight=False, markup=False)
        self._live: Live | None = None
        self._next = 0.0
        self.counts: dict[str, int] = {}
        """Iterations of this session by outcome."""
        self._last: dict[str, str] = {}
        """What to say of the newest iteration of each job."""
        self._trouble = ""
        self._fault = ""
        self.latest: dict[str, float] = {}
        """The newest numbers of the monitors."""
        self._shown: list[str] = []
        """The state as it was at the last `tick`."""
        self._phase, self._begun = "", 0.0
        """The present phase, which no `tick` reports, and its start."""

    def line(self, text: str) -> None:
        """Print a permanent line."""
        self._console.print(Text(text), soft_wrap=True)
        self._stream.flush()

    @contextlib.contextmanager
    def phase(self, what: str) -> Iterator[None]:
        """Show this activity until the block ends."""
        outer, self._phase, self._begun = (self._phase, self._begun), what, time.monotonic()
        over = threading.Event()
        reporter = threading.Thread(target=self._report, args=(over, what, self._begun), daemon=True)
        if self._terminal:
            self._show()
        else:
            reporter.start()
        try:
            yield
        finally:
            over.set()
            if reporter.is_alive():
                reporter.join()
            self._phase, self._begun = outer

    def _report(self, over: threading.Event, what: str, begun: float) -> None:
        while not over.wait(PLAIN):
            self.line(f"{time.strftime('%H:%M:%S')}  {what}, since {duration(time.monotonic() - begun)}")

    def _show(self) -> None:
        if self._live is None:
            # rich draws it in its own thread, even while the runner waits for a call to return
            self._live = Live(
                console=self._console, refresh_per_second=1 / OFTEN, transient=True, get_renderable=self._picture
            )
            self._live.start()
        self._live.refresh()

    def _picture(self) -> Text:
        lines = list(self._shown)
        if self._phase:
            lines.append(f"{self._phase} ({duration(time.monotonic() - self._begun)})")
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    def trouble(self, text: str) -> None:
        """Something went wrong."""
        self._trouble = text.splitlines()[0] if text else ""
        self.line(f"{time.strftime('%H:%M:%S')}  TROUBLE  {self._trouble}")

    def fault(self, name: str) -> None:
        """A fault began (its name) or is over (no name)."""
        self._fault = name
        if name:
            self.line(f"{time.strftime('%H:%M:%S')}  fault {name}")

    def iteration(self, instance: str, number: int, outcome: str, seconds: float, data: dict[str, Any]) -> None:
        """An iteration ended."""
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        rate = f", {data['ops'] / seconds:.1f}/s" if data.get("ops") and seconds else ""
        self._last[instance] = f"last {duration(seconds)}{rate}"
        if not self._terminal or outcome != "pass":
            self.line(f"{time.strftime('%H:%M:%S')}  {instance} {number}  {outcome}  {duration(seconds)}{rate}")

    def tick(self, began: float, limit: float | None, jobs: Jobs) -> None:
        """Update the state; cheap, called twice a second."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (OFTEN if self._terminal else PLAIN)
        self._shown = self.shown(now - began, limit, jobs)
        if self._terminal:
            self._show()
        else:
            self.line(f"{time.strftime('%H:%M:%S')}  {'  '.join(self._shown)}")

    def shown(self, elapsed: float, limit: float | None, jobs: Jobs) -> list[str]:
        """The state in a few lines: time, each job, the device, the last trouble."""
        left = f", {duration(max(0, limit - elapsed))} left" if limit is not None else ""
        counts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(self.counts.items()))
        lines = [f"{duration(elapsed)}{left}" + (f"; {counts}" if counts else "")]
        for name, begun, ops in jobs:
            now = f"iteration {begun[0]}, {ops:.0f} done" if begun is not None else "between iterations"
            lines.append(f"{name}: {now}" + (f" ({self._last[name]})" if name in self._last else ""))
        numbers = [words.format(self.latest[key]) for key, words in _NUMBERS if key in self.latest]
        lines += [", ".join(numbers)] if numbers else []
        lines += [f"fault: {self._fault}"] if self._fault else []
        lines += [f"last trouble: {self._trouble}"] if self._trouble and self._terminal else []
        return lines

    def close(self) -> None:
        """Leave the terminal clean."""
        if self._live is not None:
            self._live.stop()
            self._live = None


_NUMBERS = (
    ("probe.stat_p50", "stat {:.1f} ms"),
    ("probe.stat_p99", "p99 {:.1f} ms"),
    ("msg.total", "{:.0f} messages/s"),
    ("device.own_mb", "device {:.0f} MB"),
    ("device.fds", "{:.0f} descriptors"),
)
