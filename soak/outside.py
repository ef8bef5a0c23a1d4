"""The exported directory as its host sees it: this machine, or another one over SSH.

Functions of `soak.inside` are called with the directory as their first argument. On another machine a program does
this; it is sent there each time, and leaves nothing. Thread-safe.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import soak.inside
from conformance.errors import InfrastructureError
from guests.agent.hosts import Host
from guests.agent.link import LinkLost
from soak.inside import elsewhere

T = TypeVar("T")

LIMIT = 1800.0
"""Seconds that an answer may take: a whole tree is hashed."""
_SOURCES = Path(soak.inside.__file__).parent
_PROGRAM = """\
import importlib.abc, importlib.machinery, json, sys
asked = json.load(sys.stdin)
class Sent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        known = name in asked["sources"]
        return importlib.machinery.ModuleSpec(name, self, is_package=name in ("soak", "soak.inside")) if known else None
    def exec_module(self, module):
        exec(compile(asked["sources"][module.__name__], module.__name__, "exec"), module.__dict__)
sys.meta_path.insert(0, Sent())
module = importlib.import_module(asked["module"])
print(json.dumps(getattr(module, asked["function"])(*asked["arguments"])))
"""


class Outside:
    """One directory on its host."""

    def __init__(self, host: Host, path: str) -> None:
        self.host, self.path = host, path

    def __str__(self) -> str:
        return self.path if self.host.local else f"{self.path} on {self.host.where}"

    def below(self, name: str) -> Outside:
        """A directory or file in it."""
        return Outside(self.host, f"{self.path}/{name}")

    @property
    def parent(self) -> Outside:
        """Its parent directory."""
        return Outside(self.host, self.path.rpartition("/")[0])

    @property
    def here(self) -> Path:
        """Its path on this machine. Raises InfrastructureError if it is on another."""
        if not self.host.local:
            raise InfrastructureError(f"{self} is on another machine", "leave out the fault that fills it")
        return Path(self.path)

    def ask(self, function: Callable[..., T], *arguments: Any) -> T:
        """The result of that function of `soak.inside`. Raises LinkLost if the directory's host is unreachable."""
        if self.host.local:
            return function(self.path, *arguments)
        asked = {
            "sources": sources(),
            "module": function.__module__,
            "function": function.__name__,
            "arguments": [self.path, *arguments],
        }
        try:
            done = self.host.python(_PROGRAM, LIMIT, json.dumps(asked).encode())
        except (InfrastructureError, TimeoutError) as error:
            raise LinkLost(f"{self.host.where} is not reached: {error}") from error
        if not done.ok:
            lines = done.stderr.strip().splitlines()
            raise LinkLost(f"{function.__name__} on {self.host.where}: {lines[-1] if lines else 'it said nothing'}")
        answer: T = json.loads(done.stdout)
        return answer

    def put(self, name: str, source: Path) -> None:
        """Copy a file of this machine into it. Raises InfrastructureError."""
        if self.host.local:
            shutil.copyfile(source, self.here / name)
            return
        done = self.host.run(["sh", "-c", 'cat > "$1"', "sh", f"{self.path}/{name}"], LIMIT, source.read_bytes())
        if not done.ok:
            raise InfrastructureError(f"{self.below(name)} cannot be written: {done.stderr.strip()}")

    def identity(self) -> list[int]:
        """The identity of the directory; zeros if there is none."""
        return self.ask(elsewhere.identity)


@functools.cache
def sources() -> dict[str, str]:
    """Module -> source, for all modules that may be called."""
    found: dict[str, Any] = {f"soak.inside.{path.stem}": path.read_text("utf-8") for path in _SOURCES.glob("*.py")}
    return {**found, "soak": "", "soak.inside": ""}
