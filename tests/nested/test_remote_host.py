"""The host is another machine with a working KVM, reached by SSH alone; its guest is reached through it.

Nothing goes through this machine's file system: the paths exist on the outer guest and nowhere else.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from conformance.evidence.overview import standing
from conformance.evidence.record import load_run
from soak.journal import open_existing
from soak.judges import ACCEPTABLE
from tests.nested.conftest import SHARE, Remote

pytestmark = [pytest.mark.guest, pytest.mark.long]

WHOLE = "ASSAY9_TEST_WHOLE"
SAMPLE = "OPEN-001 or STAT-001 or RENAME-001 or ROMOUNT-002 or NODEV-001 or NESTED-001 or FULL-001"


def judged(remote: Remote, *words: str) -> Counter[str]:
    """Run cases on a machine that `qemu-remote` starts there, check the record; returns standing -> number of cases."""
    done = remote.assay9("run", "qemu-remote", *remote.qemu, *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    record = load_run(remote.newest())
    assert record.environment.access.startswith(f"SSH to {remote.outer.guest}:")
    assert record.environment.other["outside"].startswith(f"{remote.outer.host}: Linux")
    assert record.environment.exported is not None and record.environment.exported.path.startswith(SHARE)
    return Counter(standing(result) for result in record.results)


def test_a_machine_is_started_judged_and_ended_on_another_host(remote: Remote) -> None:
    counts = judged(remote, "-k", SAMPLE)
    assert counts["pass"] > 40 and set(counts) <= {"pass", "known", "varies"}, counts


@pytest.mark.skipif(WHOLE not in os.environ, reason=f"hours on two emulated processors: set {WHOLE} to run it")
def test_the_whole_layer_vfs_on_another_host(remote: Remote) -> None:
    counts = judged(remote, "--layer=vfs")
    assert counts["pass"] > 1200, counts


def test_raw_messages_reach_the_device_through_its_guest(remote: Remote) -> None:
    """Cases with thousands of messages are left out: each answer crosses two SSH connections."""
    counts = judged(remote, "--layer=wire", "--family=walk", "-k", "not (WIRE-WALK-027 or WIRE-WALK-044)")
    assert counts["pass"] > 30 and not set(counts) & {"fail", "error"}, counts


def test_a_soak_of_20_minutes_with_pause_and_power_cut_watches_the_process_there(remote: Remote) -> None:
    words = ["--workload=tree", "--for=20m", "--set=tree.steps=20", "--sample=5", "--fault-every=120s"]
    words += ["--fault=pause", "--fault=power-cut", *(f"--accept-unknown={judge}" for judge in ACCEPTABLE)]
    done = remote.assay9("soak", "run", "qemu-remote", *remote.qemu, *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    with open_existing(remote.newest(), writable=False) as journal:
        assert [i.outcome for i in journal.iterations()].count("pass") >= 4
        assert {event.data["name"] for event in journal.events("fault")} == {"pause", "power-cut"}
        samples = [sample.values for sample in journal.samples()]
        assert any(values.get("device.rss_mb", 0) > 1 for values in samples), "the QEMU of the outer guest"
        assert any("export.free_mb" in values and "host.cpus" in values for values in samples)
        ends = [event.data for event in journal.events("undone")]
        assert any("files are as fsync promised" in str(data.get("found")) for data in ends), ends
        assert not any("failed" in data for data in ends), ends


def test_a_guest_that_runs_already_there_is_attached_to_and_left(remote: Remote) -> None:
    with remote.by_hand() as guest:
        before = remote.look(guest)
        for words in (("--layer=vfs", "--family=symlink"), ("--layer=wire", "--family=walk", "--allow=guest-pci")):
            done = remote.assay9("run", "attach", f"--guest={guest}", "--tag=share0", *words)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
            record = load_run(remote.newest())
            assert sum(one.verdict == "pass" for one in record.results) > 5, record.counts
        assert remote.look(guest) == before
