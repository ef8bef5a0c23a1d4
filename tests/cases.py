"""Cases for tests that are not in the library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.case import Case


def made_case(function: Callable[..., Any], **other: Any) -> Case:
    """`function` as a case; omitted arguments do not matter to the test."""
    given = {"id": "X-001", "layer": "vfs", "family": "x", "requirement": "r", "source": "s", "severity": "must"}
    return Case(**{**given, **other}, function=function)
