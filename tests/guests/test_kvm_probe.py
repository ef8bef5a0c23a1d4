"""A boot decides whether KVM works; the same boot under TCG decides how long it may take."""

from __future__ import annotations

from pathlib import Path

import pytest

from guests.images.store import Image
from guests.machines.qemu import accelerator

SAYS = "echo ASSAY9-PROBE-OK; exec sleep 600"
HANGS = "exec sleep 600"


def qemu(directory: Path, *, kvm: str, tcg: str) -> str:
    """A program in QEMU's place that runs the given command for each accelerator."""
    program = directory / "qemu"
    program.write_text(f'#!/bin/sh\ncase "$*" in\n*"-accel kvm"*) {kvm} ;;\n*) {tcg} ;;\nesac\n')
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("kvm", "tcg", "works", "said"),
    [
        (SAYS, HANGS, True, "a guest booted"),
        (HANGS, SAYS, False, "did not boot within"),
        ("echo no such accelerator; exit 1", HANGS, False, "no such accelerator"),
        ("exit 1", HANGS, False, "QEMU ended without output"),
        (f"sleep 1; {SAYS}", "echo built without it; exit 1", True, "a guest booted"),
    ],
)
def test_kvm_works_where_a_guest_boots_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kvm: str, tcg: str, works: bool, said: str
) -> None:
    monkeypatch.setattr(accelerator, "LEAST", 0.0)
    answer, why = accelerator.probe(Image("any", tmp_path), qemu(tmp_path, kvm=kvm, tcg=tcg), accelerator.Boot)
    assert answer is works and said in why


def test_a_slow_kvm_is_not_refused_as_long_as_tcg_has_not_booted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator, "LEAST", 0.0)
    after = f"while test ! -e {tmp_path}/kvm; do sleep 0.1; done; {SAYS}"
    slow = f"sleep 2; touch {tmp_path}/kvm; {SAYS}"
    assert accelerator.probe(Image("any", tmp_path), qemu(tmp_path, kvm=slow, tcg=after), accelerator.Boot)[0]


def test_a_limit_holds_where_nothing_boots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "MOST", 0.5)
    assert not accelerator.probe(Image("any", tmp_path), qemu(tmp_path, kvm=HANGS, tcg=HANGS), accelerator.Boot)[0]
