"""The cluster: workers with tags, their tasks, and outcomes as they come. Only this module uses dask's scheduler."""

from __future__ import annotations

import contextlib
import functools
import logging
import secrets
import tempfile
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import dask
from distributed import Client, Future, LocalCluster, as_completed

from assay9.fleet.shards import SUITE, Outcome, Shards, end_shards, plugin_name, run_shard
from conformance.errors import InfrastructureError, UsageError
from guests.host.files import remove_tree
from guests.host.waiting import happens

Result = TypeVar("Result")
CONNECT = 30
"""Seconds for a scheduler to answer."""
_AT_ONCE = 1000
"""Shards of the same tags that the scheduler has at a time: what it does for a shard must not grow with their number.

Of each tags so many: shards that wait for a worker that nobody has started hold back no others."""
_NO_SUITE = (ImportError, AttributeError, SyntaxError)
"""What an import raises where the suite is not installed, or not the one that is here, or is too new for Python."""
_END = 120.0
"""Seconds for cancelled shards to end: a shard kills what does not end before."""


class Fleet:
    """A connection to a cluster, or a local cluster if none is named."""

    def __init__(self, scheduler: str | None, workers: int, tags: Sequence[str], scratch: Path | None = None) -> None:
        """`scratch`: where workers on this machine keep their files while they run. Made, and removed at the end."""
        self._scheduler, self._workers, self._tags = scheduler, workers, tags
        self._scratch = scratch
        self._stack = contextlib.ExitStack()
        self.run = secrets.token_hex(4)
        """Distinguishes the tasks of this run from others on the same scheduler."""
        self.unable: dict[str, str] = {}
        """Workers that cannot import the suite, and so get no shards -> why. Filled in by `check`."""

    def __enter__(self) -> Fleet:
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # outcomes report what a user needs to know
        with contextlib.ExitStack() as stack:
            if self._scheduler is None:
                place = stack.enter_context(self._own_directory())
                stack.enter_context(dask.config.set({"temporary-directory": str(place)}))  # of the scheduler, too
                cluster = LocalCluster(
                    n_workers=self._workers,
                    threads_per_worker=1,
                    resources=dict.fromkeys(self._tags, 1),
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
                client = Client(stack.enter_context(cluster))
            else:
                try:
                    client = Client(self._scheduler, timeout=CONNECT)
                except (OSError, ValueError) as e:
                    said = " ".join(str(e).split())[:120]
                    raise InfrastructureError(
                        f"no dask scheduler answers at {self._scheduler}: {said}",
                        "start one with `dask scheduler`, or leave --scheduler out",
                    ) from None
            self.client = stack.enter_context(client)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def _own_directory(self) -> Generator[Path]:
        if self._scratch is None:
            with tempfile.TemporaryDirectory(prefix="assay9-fleet-", ignore_cleanup_errors=True) as made:
                yield Path(made)
            return
        self._scratch.mkdir(parents=True)
        try:
            yield self._scratch
        finally:
            remove_tree(self._scratch)
            with contextlib.suppress(OSError):  # the fleet was refused: nothing else is there
                self._scratch.parent.rmdir()

    def check(self, wanted: Mapping[str, Sequence[str]]) -> list[str]:
        """Tags that no worker has yet. Raises UsageError if no worker will have them, because all are connected.

        Raises InfrastructureError if no worker can import the suite.
        """
        there = self.client.scheduler_info(n_workers=-1)["workers"]
        tried = self.client.run(exec, f"import {run_shard.__module__}", on_error="return")
        refused = {address: error for address, error in tried.items() if isinstance(error, _NO_SUITE)}
        self.unable = {f"{there[one]['id']} at {one}": str(refused[one]) for one in there if one in refused}
        if self.unable and len(refused) == len(there):
            worker, why = next(iter(self.unable.items()))
            raise InfrastructureError(
                f"no worker can import the suite: {worker} says {why}",
                "install assay9[fleet] where `dask worker` runs, in the same version as here",
            )
        having = [set(worker["resources"]) for address, worker in there.items() if address not in refused]
        missing = {name: tags for name, tags in wanted.items() if not any(set(tags) <= one for one in having)}
        if missing and self._scheduler is None:
            name, tags = next(iter(missing.items()))
            raise UsageError(
                f"shard {name} needs {', '.join(tags)}, which no worker here has: add --tag for each that this machine "
                "has, or name a --scheduler whose workers have them"
            )
        return sorted({", ".join(tags) for tags in missing.values()})

    def shards(
        self,
        plan: bytes,
        wanted: Mapping[str, Sequence[str]],
        more: Sequence[str] = (),
        program: Sequence[str] = (),
    ) -> Generator[Outcome]:
        """Run the shards of a plan; each outcome once, as it comes. `wanted`: shard -> tags of its worker.

        `more` are further arguments for each run, `program` replaces `assay9`.
        """
        self.run = secrets.token_hex(4)
        try:
            self.client.register_plugin(Shards(self.run, plan, more, program))
        except Exception as error:  # dask raises an Exception with the worker's words
            if not any(why in str(error) for why in self.unable.values()):
                raise
        try:
            with_suite = {name: [*tags, SUITE] for name, tags in wanted.items()}
            yield from self.each(with_suite, functools.partial(run_shard, self.run), _lost)
        finally:  # a scheduler that others run keeps no plan of ours
            with contextlib.suppress(OSError, RuntimeError, TimeoutError, KeyError):  # KeyError: of an unable worker
                self.client.unregister_worker_plugin(plugin_name(self.run))

    def each(
        self,
        wanted: Mapping[str, Sequence[str]],
        work: Callable[[str, str], Result],
        lost: Callable[[str, BaseException], Result],
    ) -> Generator[Result]:
        """`work(key, name)` on a worker that has the name's tags; `lost` makes the outcome of one without a result.

        dask restarts a task whose worker dies on another; closing the iterator cancels the rest.
        """
        left: dict[tuple[str, ...], deque[str]] = defaultdict(deque)
        for name, tags in wanted.items():
            left[tuple(tags)].append(name)
        waiting: dict[str, tuple[Future[Result], str]] = {}

        def handed(tags: tuple[str, ...], number: int) -> list[Future[Result]]:
            names = [left[tags].popleft() for _ in range(min(number, len(left[tags])))]
            keys = [f"{self.run}-{name}" for name in names]
            made: list[Future[Result]] = self.client.map(
                work,
                keys,
                names,
                key=keys,
                resources=dict.fromkeys(tags, 1) or None,
                pure=False,
            )
            waiting.update({key: (future, name) for key, future, name in zip(keys, made, names, strict=True)})
            return made

        ended = as_completed([future for tags in left for future in handed(tags, _AT_ONCE)])
        try:
            for batch in ended.batches():  # one query for all that have ended meanwhile, not one for each
                failed = {future.key: future.exception() for future in batch if future.status == "error"}
                whole = [future for future in batch if future.key not in failed]
                results = dict(zip((future.key for future in whole), self.client.gather(whole), strict=True))
                names = {future.key: waiting.pop(str(future.key))[1] for future in batch}
                for tags, number in Counter(tuple(wanted[name]) for name in names.values()).items():
                    if left[tags]:
                        ended.update(handed(tags, number))
                for future in batch:
                    key = future.key
                    yield lost(names[key], failed[key]) if key in failed else results[key]
        finally:
            if waiting:
                self._cancel([future for future, _ in waiting.values()])

    def _cancel(self, futures: list[Any]) -> None:
        """Cancel the rest, and wait until the running shards have ended their guests."""
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            self.client.cancel(futures, force=True)
            happens(lambda: not any(self.client.run(end_shards, self.run).values()), _END, 0.2)


def _lost(name: str, error: BaseException) -> Outcome:
    said = " ".join(str(error).split())[:200]
    return Outcome(name, 3, said=f"{type(error).__name__}: {said}")
