"""The time for each format grows with the number of cases: counted in function calls, not in seconds.

20,000 cases: benchmarks/report_formats.py.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from conformance.reports.write import REPORTS, writer_of
from tests.evidence import sample


def cost(kind: str, cases: int, path: Path) -> int:
    """The number of function calls for writing a format with that many cases."""
    record = sample.record(cases, 2)
    write = writer_of(REPORTS[kind][1])
    seen: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, argument: seen.update((event,)))
    try:
        write(record, path)
    finally:
        sys.setprofile(None)
    return seen["call"] + seen["c_call"]


@pytest.mark.parametrize("kind", REPORTS)
def test_four_times_the_cases_cost_four_times_the_work(kind: str, tmp_path: Path) -> None:
    cost(kind, 20, tmp_path / "first")  # imports, compiled templates
    some, more = cost(kind, 40, tmp_path / "some"), cost(kind, 160, tmp_path / "more")
    assert more < 4.6 * some
