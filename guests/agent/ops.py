"""The agent's ops as methods that return their values. `ops.pyi` has their types: see `tests/agent_stubs.py`."""

from __future__ import annotations

from guests.agent.by_name import ByName


class Ops(ByName):
    """Every op as a method that returns its value. Raises OSError (the call's errno)."""
