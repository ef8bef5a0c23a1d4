"""A host that is another machine, with a working KVM, reached by SSH alone; its guest is reached through it.

Nothing goes through this machine's file system: the paths exist on the outer guest and nowhere else.
"""

from __future__ import annotations

import pytest

from conformance.evidence.record import load_run
from tests.nested.conftest import SHARE, Remote

pytestmark = [pytest.mark.guest, pytest.mark.long]

SAMPLE = "OPEN-001 or STAT-001 or RENAME-001 or ROMOUNT-002 or NODEV-001 or NESTED-001 or FULL-001"


def judged(remote: Remote, *words: str) -> dict[str, int]:
    """Run cases on a machine that `qemu-remote` starts there; verdict -> cases."""
    done = remote.assay9("run", "qemu-remote", *remote.qemu, *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    record = load_run(remote.newest())
    assert record.environment.access.startswith(f"SSH to {remote.outer.guest}:")
    assert record.environment.other["outside"].startswith(f"{remote.outer.host}: Linux")
    assert record.environment.exported is not None and record.environment.exported.path.startswith(SHARE)
    counts: dict[str, int] = {}
    for result in record.results:
        counts[result.verdict] = counts.get(result.verdict, 0) + 1
    return counts


def test_a_machine_is_started_judged_and_ended_on_another_host(remote: Remote) -> None:
    counts = judged(remote, "-k", SAMPLE)
    assert counts["pass"] > 40 and set(counts) <= {"pass", "known", "varies"}, counts


def test_the_whole_layer_vfs_on_another_host(remote: Remote) -> None:
    counts = judged(remote, "--layer=vfs")
    assert counts["pass"] > 1200, counts
