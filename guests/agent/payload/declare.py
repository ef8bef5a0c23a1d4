"""How an op is declared, found by name and performed.

An op is a function in `OPS`. Parameters annotated `PathName` are path names: relative ones are taken below the
worker's root (the case's own directory). Ops marked `changes=` report the path they changed, so that the caller can
compare it inside and outside after every such call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from guests.agent.payload.platforms import need
from guests.agent.payload.state import CHANGED, FD_PATHS, under_root
from guests.agent.payload.values import Function
from guests.agent.payload.wire import decode


class Op:
    """A declared op."""

    def __init__(self, function: Callable[..., Any], changes: tuple[str, ...], needs: str) -> None:
        self.function, self.changes, self.needs = function, changes, needs
        self.names = function.__code__.co_varnames[: function.__code__.co_argcount]
        notes = function.__annotations__
        self.paths = [i for i, name in enumerate(self.names) if str(notes.get(name)).startswith("PathName")]


OPS: dict[str, Op] = {}
SPOILING: set[str] = set()
"""Ops after which their process is good for nothing else: `reset` does not undo what they do."""


def op(changes: tuple[str, ...] = (), spoils: bool = False, needs: str = "") -> Callable[[Function], Function]:
    """Declare an op.

    `changes`: parameters whose path (or whose descriptor's path) the call changes. `spoils`: see SPOILING. `needs`: the
    feature of the platform without which the op is absent.
    """

    def declare(function: Any) -> Any:
        name = function.__name__.rstrip("_")
        if spoils:
            SPOILING.add(name)
        OPS[name] = Op(function, changes, needs)
        return function

    return declare


def perform(name: str, args: list[Any], kw: dict[str, Any]) -> Any:
    """Run one op; CHANGED then holds the paths that it changed, even if it fails half-way.

    Raises what the op raises, and Absent if the platform does not have what it needs.
    """
    if name not in OPS:
        raise NameError(f"the agent has no op named {name!r}")
    found = OPS[name]
    if found.needs:
        need(found.needs)
    args = [decode(a) for a in args]
    kw = {k: decode(v) for k, v in kw.items()}
    below = kw.get("dir_fd")
    for i in found.paths:
        as_it_is = below is not None and found.names[i] != "other"
        if i < len(args) and isinstance(args[i], (str, bytes)):
            args[i] = os.fsencode(args[i]) if as_it_is else under_root(args[i])
        elif isinstance(kw.get(found.names[i]), (str, bytes)):
            value = kw[found.names[i]]
            kw[found.names[i]] = os.fsencode(value) if as_it_is else under_root(value)
    bound = dict(zip(found.names, args), **kw)
    touched = []
    for parameter in found.changes:
        value = bound.get(parameter)
        if isinstance(value, int):
            value = FD_PATHS.get(value)
        elif below is not None:
            base = FD_PATHS.get(below)
            value = os.path.join(base, os.fsencode(value)) if base and value is not None else None
        if value is not None:
            touched.append(os.fsdecode(value))
    CHANGED[:] = touched
    return found.function(*args, **kw)
