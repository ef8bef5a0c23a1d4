"""Faults that a program in the guest makes."""

from __future__ import annotations

import random
import time
from typing import Any

from soak.faults.scene import Fault, Scene
from soak.program import InsideProgram


class _Program(Fault):
    """A program that works for some seconds and then reports what it did."""

    silent = False
    module = name = ""

    def __init__(self) -> None:
        self._program: InsideProgram | None = None
        self._limit = 0.0

    def begin(self, scene: Scene, rng: random.Random) -> dict[str, Any]:
        config = self.configuration(rng)
        self._limit = time.monotonic() + config["seconds"] * 2 + 120
        self._program = scene.program(self.module, self.name, **config)
        return config

    def configuration(self, rng: random.Random) -> dict[str, Any]:
        """The program's configuration."""
        raise NotImplementedError

    def tick(self, now: float) -> dict[str, Any] | None:
        assert self._program is not None
        for event in self._program.poll():
            if event["e"] == "over":
                return {key: value for key, value in event.items() if key != "e"}
        if now > self._limit:
            return {"failed": f"its processes hang on the share: {self._program.last_words()[-300:]}"}
        if not self._program.running():
            # poll once more: it may have ended between the two calls
            events = self._program.poll()
            over = next((e for e in events if e["e"] == "over"), {})
            return {key: value for key, value in over.items() if key != "e"} or {
                "found": f"ended early: {self._program.last_words()[-300:] or 'killed by the OOM killer, as intended'}"
            }
        return None

    def undo(self) -> None:
        if self._program is not None:
            self._program.kill()


class GuestMemory(_Program):
    """Nearly all memory of the guest is used: page cache is dropped, writes must wait, nothing may be lost."""

    module, name = "soak.inside.pressure", "guest-memory"

    def configuration(self, rng: random.Random) -> dict[str, Any]:
        return {"seconds": rng.uniform(10, 30), "leave_mb": rng.choice([24, 32, 48])}


class Signals(_Program):
    """Processes that read, write and list are killed in the middle: the client sends Tflush, fids must not be lost."""

    module, name = "soak.inside.storm", "signals"

    def configuration(self, rng: random.Random) -> dict[str, Any]:
        return {"seconds": rng.uniform(8, 20), "seed": rng.getrandbits(32), "processes": 4}
