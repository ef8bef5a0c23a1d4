"""What every program inside the guest shares: its configuration, its reports, and its findings.

A program is started once for a session and repeats its iteration until requested to stop. It appends JSON lines to a
file on the guest's own file system, never on the share under test; the runner reads them from there:

    {"e": "begin", "n": 3}
    {"e": "alive", "n": 3, "ops": 512}
    {"e": "ask", "n": 3, "a": 1, "question": {...}}   then waits for the file answer-3-1, made by the host
    {"e": "note", "n": 3, "text": "..."}, {"e": "keep", "key": "...", "value": ...}
    {"e": "held"} between two iterations, while the runner wants quiet (a remount)
    {"e": "end", "n": 3, "outcome": "pass", "s": 4.2, "data": {...}}
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import random
import shutil
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1
MARK = "assay9-soak"
"""Part of the name of every directory that these programs may empty."""


class Finding(Exception):
    """The share is wrong. `files` are paths to keep."""

    def __init__(self, what: str, detail: str = "", files: tuple[str, ...] = ()) -> None:
        super().__init__(what)
        self.what, self.detail, self.files = what, detail, files


class Context:
    """One program's connection to the runner and its directory on the share."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.root: str = config["root"]
        self.keep: str = config["keep"]
        """A directory on the guest's own file system for operation logs."""
        self.number = 0
        self._alive, self._asked = 0.0, 0
        self.say = reporting(config)

    def alive(self, ops: float) -> None:
        """Report progress every few seconds: a stall is the absence of reports. Negative: without a count.

        `ops` is the work done so far in this iteration, in the workload's own unit (calls, objects, MiB).
        """
        now = time.monotonic()
        if now - self._alive >= 2.0:
            self._alive = now
            self.say(e="alive", n=self.number, ops=ops)

    def note(self, text: str) -> None:
        """Report a note for the journal and the display (a calibration, a decision)."""
        self.say(e="note", n=self.number, text=text)

    def keep_value(self, key: str, value: Any) -> None:
        """Keep a value (JSON) for the whole run: after a restart it is in `config["kept"]`."""
        self.config.setdefault("kept", {})[key] = value
        self.say(e="keep", key=key, value=value)

    def ask(self, **question: Any) -> Any:
        """Ask the workload's function on the host (`Workload.answer`) and wait for the answer."""
        self._asked += 1
        answer = os.path.join(self.config["dir"], f"answer-{self.number}-{self._asked}")
        self.say(e="ask", n=self.number, a=self._asked, question=question)
        limit = time.monotonic() + self.config.get("check_seconds", 1800)
        while not os.path.exists(answer):
            if time.monotonic() > limit:
                raise RuntimeError(f"the host did not answer {sorted(question)}")
            self.alive(-1)
            time.sleep(0.02)
        with open(answer) as f:
            said = json.load(f)
        os.unlink(answer)
        if "error" in said:
            raise RuntimeError("the host could not answer: {}".format(said["error"]))
        return said["answer"]

    def look_outside(self, path: str, expected: str) -> None:
        """Have the host compare what it sees below `path` (relative to the root) with a manifest's digest."""
        if said := self.ask(path=path, manifest=expected):
            raise Finding("outside sees something else than inside", said)

    def stopping(self) -> bool:
        """The runner wants no further iteration."""
        return os.path.exists(os.path.join(self.config["dir"], "stop"))

    def wait_while_held(self) -> None:
        """Between two iterations: wait while the runner needs the share idle."""
        hold = os.path.join(self.config["dir"], "hold")
        if os.path.exists(hold):
            self.say(e="held")
        while os.path.exists(hold) and not self.stopping():
            self.alive(-1)
            time.sleep(0.05)


def fresh(root: str) -> None:
    """Make it an empty directory."""
    if MARK not in root:
        raise RuntimeError(f"refusing to empty {root!r}")
    if os.path.lexists(root):
        shutil.rmtree(root)
    os.makedirs(root)


def configuration() -> dict[str, Any]:
    """This program's configuration, from the file that is its only argument. It now ends with the agent, its reader."""
    with open(sys.argv[1]) as f:
        config: dict[str, Any] = json.load(f)
    die_with_parent()
    return config


def reporting(config: dict[str, Any]) -> Callable[..., None]:
    """Appends an event as one line; a single write, so that several processes may."""
    out = os.open(config["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def say(**event: Any) -> None:
        os.write(out, json.dumps(event).encode() + b"\n")

    return say


def child(work: Callable[[], int | None]) -> int:
    """Run it in a process that ends with this one; returns its pid. The status is its result, or 1 if it raises."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            die_with_parent()
            status = work() or 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid


def die_with_parent() -> None:
    """Have the kernel end this process with its parent; a forked process must call this again."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:
        sys.exit("the parent was gone before this could be asked for")


def generator(seed: object, *more: object) -> random.Random:
    """A random generator that depends on these values alone, on every version of Python."""
    return random.Random(int.from_bytes(hashlib.sha256(repr((seed, *more)).encode()).digest()[:8], "big"))


def main(iterate: Callable[[Context, random.Random], dict[str, Any]]) -> None:
    """Run iterations as the configuration file (the only argument) says."""
    config = configuration()
    context = Context(config)
    number = config["first"]
    while number <= config.get("last", 1 << 62):
        context.wait_while_held()
        if context.stopping():
            break
        context.number = number
        context.say(e="begin", n=number)
        end = one(context, iterate, generator(config["seed"], config["name"], number))
        context.say(e="end", n=number, **end)
        if end["outcome"] != "pass":
            time.sleep(2.0)  # an immediate failure would otherwise repeat a hundred times a second
        number += 1
    context.say(e="done")


def one(
    context: Context, iterate: Callable[[Context, random.Random], dict[str, Any]], rng: random.Random
) -> dict[str, Any]:
    """The end event of one iteration: pass with its figures, fail with the finding, error with our traceback."""
    begun = time.monotonic()
    try:
        if context.config.get("fresh", 1):
            fresh(context.root)
        else:
            os.makedirs(context.root, exist_ok=True)
        begun = time.monotonic()
        data = iterate(context, rng)
        return {"outcome": "pass", "s": time.monotonic() - begun, "data": data}
    except Finding as f:
        data = {"what": f.what, "detail": f.detail[:20000], "files": list(f.files)}
        return {"outcome": "fail", "s": time.monotonic() - begun, "data": data}
    except OSError as e:
        # workloads expect all calls to succeed; where a call may fail they catch it themselves
        data = {"what": f"a call failed: {e}", "detail": traceback.format_exc(), "errno": e.errno}
        return {"outcome": "fail", "s": time.monotonic() - begun, "data": data}
    except Exception:  # noqa: BLE001 - it becomes the outcome "error"
        data = {"what": traceback.format_exc().strip().splitlines()[-1], "detail": traceback.format_exc()}
        return {"outcome": "error", "s": time.monotonic() - begun, "data": data}


def manifest(root: str) -> list[str]:
    """Every entry below a directory, sorted: type, links, size and a hash of the content, name."""
    lines = []
    waiting = [""]
    while waiting:
        below = waiting.pop()
        for name in os.listdir(os.path.join(root, below)):
            if name == ".virtfs_metadata":  # QEMU's security model mapped-file keeps owners and modes there
                continue
            relative = os.path.join(below, name)
            path = os.path.join(root, relative)
            found = os.lstat(path)
            if stat.S_ISDIR(found.st_mode):
                waiting.append(relative)
                lines.append(f"{relative} dir")
            elif stat.S_ISLNK(found.st_mode):
                lines.append(f"{relative} symlink {os.readlink(path)}")
            elif not stat.S_ISREG(found.st_mode):
                lines.append(f"{relative} special {stat.S_IFMT(found.st_mode):o} {found.st_nlink} links")
            else:
                lines.append(f"{relative} file {found.st_nlink} links {found.st_size} bytes {digest(path)}")
    return sorted(lines)


def digest(path: str) -> str:
    """A hash of a file's content."""
    made = hashlib.sha256()
    with open(path, "rb") as f:
        for part in iter(lambda: f.read(1 << 20), b""):
            made.update(part)
    return made.hexdigest()[:32]


def digest_of(lines: list[str]) -> str:
    """One line for a whole manifest."""
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
