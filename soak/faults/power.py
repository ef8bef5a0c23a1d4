"""The guest loses power: data that fsync confirmed before must be there afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import random
import time
from typing import Any

from guests.agent.link import AgentBug, CallHung, LinkLost
from soak.faults.scene import Fault, Scene
from soak.inside import elsewhere
from soak.inside.promises import steps
from soak.program import InsideProgram

_GONE = (LinkLost, CallHung, AgentBug)


PATIENCE = 120.0
"""Seconds to wait for the first promise; after that the power is cut without one."""
UNHEARD = 20
"""Steps that the program may have made after the last one that it reported."""


class PowerCut(Fault):
    """Kills the guest while a program makes promises (it writes, fsyncs and reports), starts another guest, and checks
    them.

    The new guest is restored from the snapshot, like every guest of a run; the snapshot was made before the share
    existed.
    """

    silent = False

    def __init__(self) -> None:
        self._scene: Scene | None = None
        self._program: InsideProgram | None = None
        self._cut, self._after, self._limit = 0.0, 0.0, 0.0
        self._seed, self._steps = 0, 0

    def begin(self, scene: Scene, rng: random.Random) -> dict[str, Any]:
        seconds, self._seed = rng.uniform(3, 12), rng.getrandbits(32)
        self._scene = scene
        self._program = scene.program("soak.inside.promises", "power-cut", seed=self._seed)
        self._after, self._limit = seconds, time.monotonic() + PATIENCE
        return {"seconds": seconds, "seed": self._seed}

    def tick(self, now: float) -> dict[str, Any] | None:
        assert self._scene is not None and self._program is not None
        for event in self._program.poll():
            self._steps = event["steps"]
        if self._steps and not self._cut:
            self._cut = now + self._after  # from the first promise: a busy guest may take long to begin
        if now < (self._cut or self._limit):
            return None
        self._scene.deployment.power.cut()
        begun = time.monotonic()
        self._scene.restart()
        return {"steps": self._steps, "back_after": time.monotonic() - begun, **self._judge()}

    def _judge(self) -> dict[str, Any]:
        """Check inside (on a new mount) and outside that every promise was kept."""
        assert self._scene is not None
        if not self._steps:
            return {"found": "nothing was promised in time"}
        name = self._scene.directory("power-cut")
        inside, outside = f"{self._scene.deployment.inside_root}/{name}", self._scene.outside.below(name)
        broken, kept = [], promised(self._seed, self._steps)
        for file, content in sorted(kept.items()):
            digest = None if content is None else hashlib.sha256(content).hexdigest()
            try:
                there = self._scene.deployment.inside.calls.hash_file(f"{inside}/{file}")[1]
            except OSError:
                there = None
            for place, seen in (("outside", outside.ask(elsewhere.content, file)), ("inside", there)):
                if seen != digest:
                    broken.append(f"{file}: {place} {words(seen)}, promised {words(digest)}")
        if broken:
            return {
                "failed": f"{len(broken)} promises of fsync broken, of {len(kept)} files: {broken[0]}",
                "broken": broken[:50],
            }
        return {"found": f"{len(kept)} files are as fsync promised"}

    def undo(self) -> None:
        if self._program is not None and self._scene is not None:
            # killed with the guest, or still running if the run was interrupted before the cut
            with contextlib.suppress(*_GONE, OSError):
                self._scene.deployment.inside.calls.rmtree(
                    f"{self._scene.deployment.inside_root}/{self._scene.directory('power-cut')}"
                )
            self._program = None


def promised(seed: int, count: int) -> dict[str, bytes | None]:
    """The expected files after so many steps (None: absent), without the files that unreported steps touch."""
    contents: dict[str, bytes] = {}
    made = steps(seed, contents)
    seen: set[str] = set()
    for _ in range(count):
        seen.update(next(made).names)
    now = dict(contents)
    unsure = {name for _ in range(UNHEARD) for name in next(made).names}
    return {name: now.get(name) for name in seen - unsure}


def words(digest: str | None) -> str:
    """A digest in a report."""
    return "no file" if digest is None else digest[:12]
