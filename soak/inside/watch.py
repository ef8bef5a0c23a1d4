"""The monitor inside the guest: its memory and load, how long calls on the share take, which 9P messages cross.

A thread makes the calls on the share, so a hanging share does not block the rest; `probe.age` shows for how long it has
hung. The kernel counts messages (a hist trigger on the 9p tracepoints) without recording them. Sources:
Documentation/trace/histogram.rst; include/trace/events/9p.h.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time

from soak.inside.common import MARK, configuration, reporting

TRACING = "/sys/kernel/tracing"
MINE = TRACING + "/instances/assay9-soak"
REPLIES = MINE + "/events/9p/9p_client_res/"
HIST = "hist:keys=type,err:size=128"
MEMORY = re.compile(r"^(MemAvailable|Slab|SUnreclaim|Dirty|Writeback): +(\d+)", re.MULTILINE)
CASES = TRACING + "/instances/assay9"
"""The instance of the agent, which records every message for the cases; a soak does without."""
EVERY, STATS, BLOCK = 10.0, 2, b"\x5a" * 4096
"""Seconds between two looks; stats of one look; what every other look writes and syncs."""
COUNTING = 1.0
"""Seconds of a sample in which messages are counted."""
COUNTED = 6
"""One in so many samples counts: to begin and end it changes the kernel's code, 0.15 s of a guest without KVM."""
WAKE = 5.0
"""Seconds between two thoughts of the main thread: a guest without KVM has little time to spare."""


class Probe(threading.Thread):
    """Makes the calls and keeps their times, in ms."""

    def __init__(self, roots: list[str], directory: str, seconds: float) -> None:
        super().__init__(daemon=True)
        self._roots, self._directory, self._looks, self._seconds = roots, directory, 0, seconds
        self._lock = threading.Lock()
        self._took: dict[str, list[float]] = {}
        self._came_back = time.monotonic()
        self.held = False
        self.failed = ""

    def run(self) -> None:
        while True:
            if os.path.exists(os.path.join(self._directory, "hold")):
                self.held, self._came_back = True, time.monotonic()
                time.sleep(0.2)
                continue
            self.held = False
            for root in self._roots:
                try:
                    self.look(os.path.join(root, MARK + "-probe"))
                    self.failed = ""
                except OSError as e:
                    self.failed = str(e)
            self._looks += 1
            time.sleep(min(EVERY, self._seconds))

    def look(self, path: str) -> None:
        if self._looks % 2 == 0:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                begun = time.monotonic()
                os.pwrite(fd, BLOCK, 0)
                os.fsync(fd)
                self.note("sync", begun)
            finally:
                os.close(fd)
        for _ in range(STATS):
            begun = time.monotonic()
            os.stat(path)
            self.note("stat", begun)

    def note(self, kind: str, begun: float) -> None:
        now = time.monotonic()
        with self._lock:
            self._took.setdefault(kind, []).append((now - begun) * 1000)
            self._came_back = now

    def values(self) -> dict[str, float]:
        with self._lock:
            took, self._took = self._took, {}
            out = {"probe.age": time.monotonic() - self._came_back}
        for kind, times in took.items():
            times.sort()
            out[f"probe.{kind}_p50"] = times[len(times) // 2]
            out[f"probe.{kind}_p99"] = times[min(len(times) - 1, int(len(times) * 0.99))]
            out[f"probe.{kind}_max"] = times[-1]
        return out


def put(path: str, text: str) -> None:
    with open(path, "w") as f:
        f.write(text)


class Messages:
    """Replies by the type of their request and by errno, as rates; counted during one second in every sixth sample.

    Counting costs two thousand instructions per message, a tenth of a message's cost in a guest without KVM.
    """

    def __init__(self) -> None:
        self.works = False
        if not os.path.isdir(TRACING + "/events/9p"):
            return
        with contextlib.suppress(OSError):
            for event in ("9p_client_req", "9p_client_res"):
                path = f"{CASES}/events/9p/{event}/enable"
                if os.path.exists(path):
                    put(path, "0")
        with contextlib.suppress(OSError):
            if not os.path.isdir(MINE):
                os.mkdir(MINE)
            self.works = True

    def values(self, seconds: float) -> dict[str, float]:
        """Count for that long."""
        if not self.works:
            return {}
        try:
            put(REPLIES + "trigger", HIST)
            begun = time.monotonic()
            time.sleep(seconds)
            with open(REPLIES + "hist") as f:
                text = f.read()
            took = time.monotonic() - begun
            put(REPLIES + "trigger", "!" + HIST)
        except OSError:
            self.works = False
            return {}
        return rates(parse(text), took)


def rates(counts: dict[tuple[int, int], int], seconds: float) -> dict[str, float]:
    """total, errors, by type number (T24), by errno (E2)."""
    out = {"msg.total": sum(counts.values()) / seconds, "msg.errors": 0.0}
    for (kind, err), count in counts.items():
        out[f"msg.T{kind}"] = out.get(f"msg.T{kind}", 0.0) + count / seconds
        if err:
            # the kernel's negative errno, printed without its sign
            name = f"msg.E{-err & 0xFFFFFFFF}"
            out[name] = out.get(name, 0.0) + count / seconds
            out["msg.errors"] += count / seconds
    return out


def parse(text: str) -> dict[tuple[int, int], int]:
    """The hits by type and err of a histogram as the kernel prints it."""
    found = re.findall(r"\{ type: +(-?\d+), err: +(-?\d+) \} hitcount: +(\d+)", text)
    return {(int(kind), int(err)): int(hits) for kind, err, hits in found}


def guest() -> dict[str, float]:
    with open("/proc/meminfo") as f:
        memory = {name: int(kb) / 1024 for name, kb in MEMORY.findall(f.read())}
    with open("/proc/loadavg") as f:
        load = f.read().split()
    return {
        "guest.available_mb": memory["MemAvailable"],
        "guest.slab_mb": memory["Slab"],
        "guest.unreclaimable_mb": memory["SUnreclaim"],
        "guest.dirty_mb": memory["Dirty"] + memory["Writeback"],
        "guest.load1": float(load[0]),
        "guest.processes": float(load[3].split("/")[1]),
    }


def main() -> None:
    config = configuration()
    say = reporting(config)
    messages = Messages()
    probe = Probe(config["roots"], config["dir"], config["seconds"])
    probe.start()
    held, samples, due = False, 0, time.monotonic() + config["seconds"]
    while True:
        time.sleep(min(WAKE, config["seconds"]))
        if held != probe.held:
            held = probe.held
            say(e="held" if held else "released")
        if time.monotonic() >= due:
            due = time.monotonic() + config["seconds"]
            values = {**(guest() if config.get("guest", True) else {}), **probe.values()}
            if samples % COUNTED == 0:
                values |= messages.values(min(COUNTING, config["seconds"] / 4))
            samples += 1
            say(e="sample", v=values, failed=probe.failed)


if __name__ == "__main__":
    main()
