"""A kernel may measure its counter wrongly on a busy machine: no snapshot keeps such a clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from guests.agent.clock import WrongClock
from guests.images.recipe import load_recipe
from guests.images.store import find_image
from guests.machines.qemu import snapshot
from guests.machines.qemu.launch import Launch
from guests.machines.qemu.machine import QemuMachine
from guests.machines.spec import MachineSpec

pytestmark = [pytest.mark.guest, pytest.mark.long]
WRONG = 500_000
"""kHz; the counter's true frequency is several times that."""


@pytest.fixture
def spec(private_runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachineSpec:
    """A machine whose snapshots are in a cache of this test alone."""
    image = find_image(load_recipe("debian12"))
    if image is None:
        pytest.skip("no guest image: assay9 guest build")
    cache = tmp_path / "cache" / "assay9"
    cache.mkdir(parents=True)
    (cache / "images").symlink_to(image.directory.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return MachineSpec(image="debian12", run_dir=tmp_path / "run", accelerator="tcg")


def test_a_wrong_clock_is_seen_before_it_is_saved_and_corrected_in_the_next_boot(
    spec: MachineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[tuple[str, ...]] = []

    def launch(*given: Any, kernel_arguments: tuple[str, ...], **named: Any) -> Launch:
        reported.append(kernel_arguments)
        wrong = (f"tsc_early_khz={WRONG}",) if len(reported) == 1 else kernel_arguments
        return Launch(*given, kernel_arguments=wrong, **named)

    monkeypatch.setattr(snapshot, "Launch", launch)
    said: list[str] = []
    with QemuMachine(spec, said.append) as machine:
        assert machine._started().check_clock().right
    assert len(reported) == 2 and reported[0] == () and reported[1][0].startswith("tsc_early_khz=")
    assert int(reported[1][0].partition("=")[2]) > 2 * WRONG
    assert any("times as fast as this host's" in line and "booting again" in line for line in said)


def test_a_saved_wrong_clock_is_discarded_when_it_is_restored(
    spec: MachineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier version, which did not check the clock, saved such snapshots."""

    def launch(*given: Any, kernel_arguments: tuple[str, ...], **named: Any) -> Launch:
        return Launch(*given, kernel_arguments=(f"tsc_early_khz={WRONG}",), **named)

    with monkeypatch.context() as earlier:
        earlier.setattr(snapshot, "Launch", launch)
        earlier.setattr(Launch, "check_clock", lambda self: None)
        with QemuMachine(spec, print):
            pass
    said: list[str] = []
    with QemuMachine(spec, said.append) as machine:
        assert machine._started().check_clock().right
    assert sum("the snapshot cannot be used (the guest's clock runs" in line for line in said) == 1
    with QemuMachine(spec, said.append):
        assert sum("cannot be used" in line for line in said) == 1


def test_a_clock_that_stays_wrong_is_one_line(spec: MachineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(*given: Any, kernel_arguments: tuple[str, ...], **named: Any) -> Launch:
        return Launch(*given, kernel_arguments=(f"tsc_early_khz={WRONG}",), **named)

    monkeypatch.setattr(snapshot, "Launch", launch)
    with pytest.raises(WrongClock, match=r"the guest's clock runs .* run again"):
        QemuMachine(spec, print).start()
