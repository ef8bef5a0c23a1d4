"""All cases of the suite: every module of `conformance.cases` imported."""

from __future__ import annotations

import importlib
from pathlib import Path

from conformance.case import CASES, Case

FOLDER = Path(__file__).parent.parent / "cases"


def load_cases() -> list[Case]:
    """Import every module of cases; the cases in order of layer, family and id."""
    for path in sorted(FOLDER.glob("*/test_*.py")):
        importlib.import_module(f"conformance.cases.{path.parent.name}.{path.stem}")
    return sorted(CASES.values(), key=lambda c: (c.layer, c.family, c.id))
