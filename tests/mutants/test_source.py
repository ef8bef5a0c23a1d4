"""The cases for a fault find it in the source of the reference server."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay9.selftest import without_a_fault
from conformance.catalogue.index import index
from conformance.selftest.bench import SOURCES, made
from conformance.selftest.declared import SourceFault, declared
from conformance.sut.layers import drivable
from conformance.sut.load import load

FAULTS = declared(sorted(Path(__file__).parent.glob("*.toml")))[0]
OF_QEMU = declared([Path(__file__).parent / "qemu" / "faults.toml"])[0]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_fault_can_be_put_in(fault: SourceFault) -> None:
    with made(fault) as directory:
        assert fault.after in (directory / SOURCES[fault.of] / fault.file).read_text()


def test_the_cases_that_must_find_a_fault_are_of_its_layer() -> None:
    layers = {entry.id: entry.layer for entry in index().values()}
    assert [
        (fault.name, name)
        for fault in (*FAULTS, *OF_QEMU)
        for name in fault.caught
        if layers.get(name.partition("[")[0]) != fault.layer
    ] == []


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.target], ids=lambda fault: fault.name)
def test_a_fault_fits_the_target_that_it_names(fault: SourceFault) -> None:
    target = load(fault.target)
    assert fault.layer in drivable(target)
    assert fault.of == "guest" or getattr(target, "server").program == "reference"  # noqa: B009 - of some kinds alone


def test_each_family_has_a_fault() -> None:
    assert list(without_a_fault(*declared(sorted(Path(__file__).parent.glob("*.toml"))))) == []


def test_a_family_without_a_fault_is_named() -> None:
    source = [fault for fault in FAULTS if not any(name.startswith("SEEK-") for name in fault.caught)]
    lines = list(without_a_fault(source, []))
    assert any(line.startswith("families of vfs without a fault: seek;") for line in lines), lines


def test_a_hundred_faults_of_the_server_and_the_device() -> None:
    assert len(FAULTS) >= 100
