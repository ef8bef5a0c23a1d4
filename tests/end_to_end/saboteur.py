"""A pytest plugin that makes runs go wrong: `assay9 run ... -p saboteur`, with A9_SABOTAGE set.

A9_SABOTAGE is a list `what:where what:where ...`; `where` is a case's id, a module's name, or nothing. With `once-`
before `what`, it happens once in the run, and not again in the next case.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.errors import InfrastructureError
from conformance.sut.local.kind import Local

_WANTED = [part.partition(":")[::2] for part in os.environ.get("A9_SABOTAGE", "").split()]


def _due(what: str, where: str = "") -> bool:
    if (what, where) in _WANTED:
        return True
    if (f"once-{what}", where) not in _WANTED:
        return False
    done = Path(tempfile.gettempdir()) / f"once-{what}-{where}"
    try:
        done.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _case(item: Any) -> str:
    case = getattr(item.function, "assay9_case", None)
    return case.id if case is not None else ""


@pytest.fixture(autouse=True)
def saboteur(request: pytest.FixtureRequest) -> Iterator[None]:
    where = _case(request.node)
    if _due("fixture", where):
        raise ValueError("the fixture is broken")
    if _due("skip", where):
        pytest.skip("not today")
    if _due("kill", where):
        os.kill(os.getpid(), signal.SIGKILL)
    if _due("term", where):
        os.kill(os.getpid(), signal.SIGTERM)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if _due(f"parent-{number.name}", where):
            os.kill(os.getppid(), number)
    if _due("agent", where):
        runners = request.config.pluginmanager.getplugin("assay9-run").runners
        os.kill(runners["mount"].deployment.host.pid, signal.SIGKILL)
    if _due("exit", where):
        os._exit(0)
    if _due("interrupt", where):
        os.killpg(os.getpgrp(), signal.SIGINT)
    if _due("unjudged", where):
        request.node.runtest = lambda: None
    yield
    if _due("teardown", where):
        raise ValueError("the fixture does not end")


def pytest_pycollect_makeitem(collector: pytest.Module) -> None:
    if _due("collect", collector.name):
        raise ImportError("no module named fred")


def pytest_sessionstart(session: pytest.Session) -> None:
    worker = hasattr(session.config, "workerinput")
    if worker and _due("start"):
        os._exit(1)
    if _due("target"):

        def broken(*_: object) -> None:
            raise InfrastructureError("no guest for you", "buy one")

        Local.deployment = broken  # type: ignore[assignment]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    if _due("internal", _case(item)):
        raise RuntimeError("a hook is broken")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _due("damage") and not hasattr(session.config, "workerinput"):
        plugin: Any = session.config.pluginmanager.getplugin("assay9-run")
        for path in plugin.run_dir.glob("cases-*.jsonl"):
            lines = path.read_bytes().splitlines(keepends=True)
            path.write_bytes(b"".join([b"{}\n", *lines[1:]]))
