"""The types of arguments and results of ops: for type checkers and callers, not part of the file that is pushed."""

from __future__ import annotations

from typing import Literal, TypedDict, TypeVar

PathName = bytes
"""A parameter that is a path name: callers give text or bytes, and `perform` puts relative ones below the root."""
Attributes = dict[str, int]
"""Fields of struct stat, statx, statfs or statvfs by name; times in nanoseconds under `..._ns`."""
Time = int | Literal["now", "omit"] | list[int]
"""Nanoseconds since 1970, UTIME_NOW, UTIME_OMIT, or [seconds, nanoseconds] as they are."""
LockKind = Literal["r", "w", "u"]
"""A shared or exclusive record lock, or none."""
Identity = tuple[int | None, int | None, tuple[int, ...]]
"""User, group and further groups of a process; None for the agent's own."""
Function = TypeVar("Function")


class Lock(TypedDict):
    """A record lock as in fcntl(F_GETLK)."""

    type: LockKind
    start: int
    length: int
    pid: int


class Platforms(TypedDict):
    """Where an agent runs."""

    system: str
    release: str
    machine: str
    python: str
    absent: dict[str, str]
    """Features that ops need and that are not there, each with the reason."""


class Ended(TypedDict):
    """How a program ended; a negative status is a signal's number."""

    status: int
    stdout: bytes
    stderr: bytes
