"""The released crate p9 lets a guest out of its share by `..`; Debian's patch (37ff802 upstream) fixes this.

The suite finds the escape in the released crate and reports none in the fixed one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.evidence.models import CaseResult
from conformance.evidence.record import load_run

TARGET = """\
kind = "server"
components = ["crosvm-p9"]
title = "the crate p9 of crosvm"
layers = ["wire"]
[server]
program = "crosvm-p9"
released = %s
"""
BY_DOTDOT = {"WIRE-CONFINEMENT-001[deep]", "WIRE-CONFINEMENT-001[root]"}


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="servers under test are contained, which takes root")
@pytest.mark.parametrize("released", [True, False], ids=["as released", "with the patch"])
def test_the_escape_of_the_released_crate_is_found(tmp_path: Path, released: bool) -> None:
    (tmp_path / "mine.toml").write_text(TARGET % str(released).lower())
    done = subprocess.run(
        [sys.executable, "-m", "assay9", "run", "./mine.toml", "--family", "confinement", "--jobs", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    found = {r.id for r in load_run(tmp_path / "results" / "latest").results if r.verdict == "fail" and _escapes(r)}
    if released:
        assert done.returncode == 1 and found >= BY_DOTDOT, done.stdout + done.stderr
    else:
        assert done.returncode == 0 and not found, done.stdout + done.stderr


def _escapes(result: CaseResult) -> bool:
    return any(finding.code == "escape" for finding in result.findings)
