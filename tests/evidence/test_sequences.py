"""A run keeps each failing sequence of calls as a file that `assay9 replay` plays again."""

from __future__ import annotations

import json
from pathlib import Path

from conformance.evidence.models import KnownFailure, SeenFinding
from conformance.evidence.record import SEQUENCES, RunWriter
from conformance.model.step import Step, from_replay
from tests.evidence import sample

STEPS = (Step("mkdir", ("a", 0o755)), Step("rmdir", ("a",)))


def test_a_failing_sequence_is_kept(tmp_path: Path) -> None:
    sequence = json.dumps([step.to_json() for step in STEPS])
    declared = KnownFailure(reason="declared", link="", owner="server")
    found = [
        SeenFinding(code="errno", text="declared", values={"sequence": sequence}, known=declared),
        SeenFinding(code="errno", text="rmdir('a') ended with EIO", values={"sequence": sequence}),
        SeenFinding(code="errno", text="no sequence"),
    ]
    writer = RunWriter.create(tmp_path, sample.environment("qemu"))
    writer.append(sample.results(1)[0].model_copy(update={"findings": found}))
    writer.close()
    kept = list((writer.run_dir / SEQUENCES).iterdir())
    assert len(kept) == 1
    said = json.loads(kept[0].read_text())
    assert from_replay(said) == STEPS
    assert (said["target"], said["finding"]) == ("qemu", "rmdir('a') ended with EIO")
