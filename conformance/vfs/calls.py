"""The agent's ops as methods that return something other than their value. `calls.pyi` has their types."""

from __future__ import annotations

from guests.agent.by_name import ByName


class Refusals(ByName):
    """Every op as a method that must fail, and returns the errno that was seen."""


class Soons(ByName):
    """Every op as a method that sends the call, and returns its value as what checks can wait for."""


class Starts(ByName):
    """Every op as a method that begins the call, and returns an object that waits for it."""
