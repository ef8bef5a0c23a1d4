"""The agent's ops as methods. `ops.pyi`, generated from the declarations in the payload, has their types."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Any

from guests.agent.payload import (  # noqa: F401 - a module that is imported declares its ops
    attributes,
    cases,
    content,
    directories,
    events,
    files,
    locks,
    looking,
    maps,
    mounting,
    moving,
    names,
    programs,
    races,
    trace,
    xattrs,
)
from guests.agent.payload.declare import OPS


def returns(op: str) -> str:
    """The annotation of what an op returns; "None" for one that is not declared."""
    return str(OPS[op].function.__annotations__["return"]) if op in OPS else "None"


def op_of(name: str) -> str:
    """The op of that name. Raises AttributeError where the agent declares none, with the nearest that it does."""
    if name not in OPS:
        near = get_close_matches(name, OPS, 1)
        raise AttributeError(f"the agent has no op {name!r}" + (f": did you mean {near[0]!r}?" if near else ""))
    return name


class Ops(ABC):
    """Every op as a method that returns its value."""

    @abstractmethod
    def perform(self, op: str, *args: Any, **kw: Any) -> Any:
        """Make the call `op`; its value. Raises OSError (the call's errno)."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self.perform, op_of(name))
