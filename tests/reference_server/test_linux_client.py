"""Linux itself mounts the server, as in `assay9 run reference-tcp`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.evidence.record import load_run

CASES = "chmod_changes_only or setgid_without_group_execution_stays"


@pytest.mark.guest
@pytest.mark.skipif(os.geteuid() != 0, reason="a server under test is contained, which takes root")
def test_a_stock_guest_mounts_it_over_tcp(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "assay9", "run", "reference-tcp", "--family", "mode", "-k", CASES, "--jobs", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    record = load_run(tmp_path / "results" / "latest")
    assert {result.case_id for result in record.results} == {"MODE-001", "MODE-019"}
    for result in record.results:
        assert result.verdict == "pass"
        assert "trans=tcp" in result.mount_shown
        assert sum(result.message_counts.values()) > 0
