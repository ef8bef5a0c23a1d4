"""Target `qemu-nested` as a whole: the suite boots the outer guest, starts QEMU with KVM there, judges its device."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.evidence.record import load_run
from guests.machines.qemu import accelerator
from guests.machines.qemu.outer import FILES, OuterHost

pytestmark = [pytest.mark.guest, pytest.mark.long]


def test_cases_are_judged_under_kvm(tmp_path: Path) -> None:
    sample = "OPEN-001 or STAT-001 or RENAME-001 or ROMOUNT-002 or NODEV-001 or FULL-001"
    argv = [sys.executable, "-m", "assay9", "run", "qemu-nested", "-k", sample, f"--results={tmp_path / 'results'}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    record = load_run(tmp_path / "results" / "latest")
    assert record.environment.accelerator == "kvm" and record.environment.target_version.startswith("QEMU 1")
    assert sum(one.verdict == "pass" for one in record.results) > 30, record.counts


def test_the_probe_takes_a_slow_kvm_that_works(outer: OuterHost, tmp_path: Path) -> None:
    """The probe's own boots, in the outer guest: KVM there works, but is many times slower than on a real machine."""

    class There(accelerator.Boot):
        """A boot by the probe in the outer guest."""

        def command(self, argv: list[str]) -> list[str]:
            there = {str(outer.image.vmlinux): f"{FILES}/vmlinux", str(outer.image.initramfs): f"{FILES}/initramfs"}
            words = ["qemu-system-x86_64", *(there.get(word, word) for word in argv[1:])]
            return ["ssh", "-F", str(outer.config), "-tt", outer.host, shlex.join(words)]

    answer, why = accelerator.probe(outer.image, "qemu-system-x86_64", There)
    assert answer, why
