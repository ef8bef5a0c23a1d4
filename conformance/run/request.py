"""The request for a run: what its command line says about cases and share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.sut.spec import Target


@dataclass(frozen=True, slots=True)
class Request:
    """The request for a run. What the user did not give is empty."""

    target: Target
    options: Mapping[str, Any] = field(default_factory=dict)
    """By the fields of the kinds' options models; what is empty was not given."""
    layers: Sequence[str] = ()
    families: Sequence[str] = ()
    mounts: Sequence[str] = ()
    matrix: bool = False
    """--mounts all."""
    control: str | None = None
    expression: str | None = None
    """-k."""
    jobs: int | None = None
    results: Path = Path("results")
