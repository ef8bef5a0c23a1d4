"""What a person sees while a soak runs: one line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, TextIO

from soak.plan import duration

PLAIN = 60.0
"""Seconds between two plain lines of progress."""


class View:
    """Writes to standard error, so that standard output stays for what was asked for."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._next = 0.0
        self._shown = False
        self.counts: dict[str, int] = {}
        """Iterations of this session by outcome."""
        self._trouble = ""
        self.latest: dict[str, float] = {}
        """The newest numbers of the monitors."""

    def line(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        print(text, file=self._stream, flush=True)

    def trouble(self, text: str) -> None:
        """Something went wrong."""
        self._trouble = text.splitlines()[0] if text else ""
        self.line(f"{time.strftime('%H:%M:%S')}  TROUBLE  {self._trouble}")

    def iteration(self, instance: str, number: int, outcome: str, seconds: float, data: dict[str, Any]) -> None:
        """An iteration ended."""
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        if not self._terminal or outcome != "pass":
            rate = f"  {data['ops'] / seconds:.0f} ops/s" if data.get("ops") and seconds else ""
            self.line(f"{time.strftime('%H:%M:%S')}  {instance} {number}  {outcome}  {duration(seconds)}{rate}")

    def tick(self, began: float, limit: float | None, jobs: list[tuple[str, tuple[int, int] | None, float]]) -> None:
        """The present state; cheap, called twice a second."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (1.0 if self._terminal else PLAIN)
        elapsed = now - began
        parts = [duration(elapsed) + (f", {duration(max(0, limit - elapsed))} left" if limit is not None else "")]
        parts += [f"{name} {begun[0]} ({ops:.0f} ops)" for name, begun, ops in jobs if begun is not None]
        parts += [f"{n} {outcome}" for outcome, n in sorted(self.counts.items())]
        if "probe.stat_p99" in self.latest:
            parts.append(f"p99 {self.latest['probe.stat_p99']:.1f} ms")
        if "device.own_mb" in self.latest:
            parts.append(f"device {self.latest['device.own_mb']:.0f} MB")
        parts += [f"last trouble: {self._trouble}"] if self._trouble and self._terminal else []
        text = "  ".join(parts)
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            print("\r\x1b[K" + text[:width], end="", file=self._stream, flush=True)
            self._shown = True
        else:
            self.line(f"{time.strftime('%H:%M:%S')}  {text}")

    def close(self) -> None:
        """Leave the terminal clean."""
        self._clear()

    def _clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
            self._shown = False
