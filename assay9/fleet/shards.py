"""A shard on a worker: a process of `assay9 run` or `assay9 soak`, which ends when it is cancelled or its worker ends.

Rule of this module: dask provides the worker and transfers the outcome; the command defines what a shard does.
"""

from __future__ import annotations

import contextlib
import io
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Status, Worker, WorkerPlugin, get_worker

from assay9.plan import command_of
from conformance.errors import InfrastructureError, UsageError
from conformance.evidence.manifest import NAME, files_of
from guests.host.processes import dying_with_parent, end_tree, start_time

SUITE = "assay9"
"""The resource of a worker that can import the suite: its shards need it, so they go to no other worker."""
USAGE = 2
_PATIENCE = 90.0
"""Seconds after which a cancelled shard is killed: longer than `assay9 run` itself waits for its guests."""
_LOOK = 0.5
"""Seconds between two looks whether a shard has to be killed."""
_SAID = 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a shard."""

    name: str
    status: int
    """The exit status of its command."""
    host: str = ""
    worker: str = ""
    seconds: float = 0.0
    said: str = ""
    """The last line of standard error."""
    packed: bytes = b""
    """The run's directory as a gzipped tar file; empty where the command left none."""


@dataclass(slots=True)
class _Process:
    """The process of a shard."""

    process: subprocess.Popen[bytes]
    kill_at: float | None = None
    """When it has to be killed, in seconds of time.monotonic: it was asked to end."""


class Shards(WorkerPlugin):
    """Starts the shards of one plan on one worker, and ends them when dask cancels them."""

    def __init__(self, run: str, plan: bytes, more: Sequence[str] = (), program: Sequence[str] = ()) -> None:
        self.name = plugin_name(run)
        self._plan, self._more, self._program = plan, tuple(more), tuple(program)
        self._place = Path()
        self._begun: set[str] = set()
        self._running: dict[str, _Process] = {}
        self._taken_back: set[str] = set()
        self._over = False

    async def setup(self, worker: Worker) -> None:
        """See WorkerPlugin. Also called on a worker that starts, or starts again, while shards wait for one."""
        self._place = Path(tempfile.mkdtemp(prefix="assay9-fleet-", dir=worker.local_directory))
        (self._place / "plan.json").write_bytes(self._plan)
        await worker.set_resources(**{SUITE: 1})
        if worker.status == Status.running:  # only at this change does the scheduler look for tasks that wait
            worker.status = Status.paused
            worker.status = Status.running

    def teardown(self, worker: Worker) -> None:
        """See WorkerPlugin. The worker ends: so do its shards."""
        self.end()

    def end(self) -> None:
        """Start no further shard, and request running ones to end."""
        self._over = True
        for key in list(self._running):
            self._end(key)

    def transition(self, key: Any, start: Any, finish: Any, **kwargs: Any) -> None:
        """See WorkerPlugin. A cancelled shard is asked to end, with its guests; it keeps its thread until it has."""
        if start in ("executing", "long-running") and finish == "released":
            self._end(str(key))

    @property
    def running(self) -> int:
        """Shards that have begun and not ended, including those whose process has not started yet."""
        return len(self._begun)

    def run(self, key: str, name: str, worker: str) -> Outcome:
        """Run the shard of that name to its end. A command that refuses is an outcome, too.

        Raises InfrastructureError if it was cancelled: its files are not a shard.
        """
        self._begun.add(key)
        try:
            return self._run(key, name, worker)
        finally:
            self._begun.discard(key)

    def _run(self, key: str, name: str, worker: str) -> Outcome:
        began = time.monotonic()

        def outcome(status: int, said: str, packed: bytes = b"") -> Outcome:
            return Outcome(name, status, platform.node(), worker, time.monotonic() - began, said[:_SAID], packed)

        try:
            words = command_of(self._place / "plan.json", name)
        except UsageError as e:
            return outcome(USAGE, str(e))
        self._not_taken_back(key, name)
        directory = Path(tempfile.mkdtemp(dir=self._place))
        try:
            more = self._more if words[0] == "run" else ()
            status = self._wait(key, [*words, *more, "--results", str(directory / "results")], directory)
            self._not_taken_back(key, name)
            lines = (directory / "stderr").read_text(encoding="utf-8", errors="replace").splitlines()
            return outcome(
                status, next((line.strip() for line in reversed(lines) if line.strip()), ""), _packed(directory)
            )
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _wait(self, key: str, words: list[str], directory: Path) -> int:
        program = self._program or (sys.executable, "-m", "assay9")
        argv = dying_with_parent([*program, *words], signal.SIGTERM)
        with (directory / "stderr").open("wb") as errors:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # Ctrl-C at the terminal is for the fleet, which cancels the shards
            )
        one, started = _Process(process), start_time(process.pid)
        self._running[key] = one
        if self._over or key in self._taken_back:  # before there was a process to end
            self._end(key)
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(_LOOK)
                if one.kill_at is not None and started is not None and time.monotonic() > one.kill_at:
                    end_tree(process.pid, started)
        finally:
            del self._running[key]

    def _not_taken_back(self, key: str, name: str) -> None:
        if self._over or key in self._taken_back:
            raise InfrastructureError(f"shard {name} was cancelled", "run the matrix again")

    def _end(self, key: str) -> None:
        self._taken_back.add(key)
        one = self._running.get(key)
        if one is not None and one.kill_at is None:
            one.kill_at = time.monotonic() + _PATIENCE
            one.process.send_signal(signal.SIGTERM)


def plugin_name(run: str) -> str:
    """The name of the plugin of a fleet's run on a worker."""
    return f"assay9-{run}"


def run_shard(run: str, key: str, name: str) -> Outcome:
    """Run a shard on the worker that calls this."""
    worker = get_worker()
    shards = worker.plugins[plugin_name(run)]
    assert isinstance(shards, Shards)
    return shards.run(key, name, str(worker.name))


def end_shards(run: str, dask_worker: Worker) -> int:
    """End the shards of that run on this worker; how many have not ended yet. For `Client.run`, which gives the worker.

    Dask may report later that a task was cancelled, after a further task has begun.
    """
    shards = dask_worker.plugins.get(plugin_name(run))
    if not isinstance(shards, Shards):
        return 0
    shards.end()
    return shards.running


def _packed(directory: Path) -> bytes:
    """The run below the directory, without files that a guest left in the exported directories."""
    made = (directory / "results").glob("[!.]*")
    runs = [path for path in made if path.is_dir() and not path.is_symlink()]
    if len(runs) != 1:
        return b""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=3) as tar:
        for path in [*files_of(runs[0]), *runs[0].glob(NAME)]:
            tar.add(path, f"{runs[0].name}/{path.relative_to(runs[0])}")
    return out.getvalue()


def unpacked(outcome: Outcome, place: Path) -> Path | None:
    """The directory of a shard's run below `place`; None if there is none. Raises OSError."""
    if not outcome.packed:
        return None
    with tarfile.open(fileobj=io.BytesIO(outcome.packed), mode="r:gz") as tar:
        name = tar.getnames()[0].partition("/")[0]
        tar.extractall(place / outcome.name, filter="data")
    return place / outcome.name / name
