"""Looking at one thing from inside and outside. A look says what was seen; `Share.same` says whether it agrees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from conformance.errors import Finding
from conformance.vfs.compare import Comparison

T = TypeVar("T")
Tolerated = Mapping[str, str]
"""Plain field names -> why a difference in that field is no finding this once."""


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """What the two sides showed, one directly after the other.

    Where there is one side only (the control file system, a share that nothing outside can look at), `outside` is what
    inside showed.
    """

    inside: T
    outside: T
    compare: Callable[[Tolerated], Comparison]
    """The comparison of the two, by the rules of the target."""
    missing: Finding | None = None
    """The file is missing on one side or both."""
    again: Callable[[], Look[T]] | None = None
    """Looks once more, where other programs of the host change meanwhile what is looked at."""


Stat = Mapping[str, Any]
"""A stat, statx or statvfs result: st_mode, stx_mode, f_bsize -> value."""
