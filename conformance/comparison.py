"""The result of one comparison: values of any type while a case runs, their text in a record.

Plain slotted dataclasses: a long run makes a million of them, and a pydantic object costs three times the time and
eight times the memory. pydantic checks them when a record is read, mypy when one is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict

from conformance.vocabulary import RuleKind

V = TypeVar("V")
FORBID = ConfigDict(extra="forbid")


@dataclass(slots=True)
class FieldComparison(Generic[V]):
    """One field seen inside and outside: both values are kept, even when they are equal."""

    __pydantic_config__ = FORBID

    name: str
    inside: V
    outside: V
    rule: RuleKind
    equal: bool
    tolerated: str | None = None
    """Why a difference is not a finding."""

    @property
    def ok(self) -> bool:
        """Equal, or different for a stated reason."""
        return self.equal or self.tolerated is not None


@dataclass(slots=True)
class Comparison(Generic[V]):
    """One look at the same thing from both sides."""

    __pydantic_config__ = FORBID

    after_call: int
    """Index of the call it followed; 0 before the first."""
    kind: str
    """stat, statx, statvfs, readdir, xattr, link, content."""
    path: str
    fields: list[FieldComparison[V]]
    ok: bool
    """No field differs without a reason."""


def compared(kind: str, path: str, fields: list[FieldComparison[Any]]) -> Comparison[Any]:
    """The result of a comparison, before the call that preceded it is known."""
    return Comparison(0, kind, path, fields, all(field.ok for field in fields))
