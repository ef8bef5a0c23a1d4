"""The ops that the agent declares, and classes with the ops as methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
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
    sequences,
    trace,
    xattrs,
)
from guests.agent.payload.declare import OPS
from guests.words import did_you_mean


def returns(op: str) -> str:
    """The return annotation of an op; "None" for the agent's own requests."""
    return str(OPS[op].function.__annotations__["return"]) if op in OPS else "None"


class ByName(ABC):
    """Every op as a method, by name: `perform` gets the caller's arguments. Stubs have the types."""

    @abstractmethod
    def perform(self, op: str, *args: Any, **kw: Any) -> Any:
        """Make the call `op`."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in OPS:
            return partial(self.perform, name)
        hint = "" if name.startswith("_") else did_you_mean(name, OPS)
        raise AttributeError(f"{type(self).__name__} has no attribute, and the agent no op {name!r}{hint}")
