"""Every report of a run, derived from its record."""

from __future__ import annotations

from pathlib import Path


def write_reports(run_dir: Path) -> None:
    """Write all reports into the run directory."""
