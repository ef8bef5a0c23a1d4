"""A fault in the source of the reference server is found by the cases that are there for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.catalogue.index import index
from conformance.selftest.bench import SERVER, made
from conformance.selftest.declared import SourceFault, declared

FAULTS = declared(sorted(Path(__file__).parent.glob("*.toml")))[0]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_fault_can_be_put_in(fault: SourceFault) -> None:
    with made(fault) as directory:
        assert fault.after in (directory / SERVER / fault.file).read_text()


def test_the_cases_that_must_find_a_fault_are_of_its_layer() -> None:
    layers = {entry.id: entry.layer for entry in index().values()}
    assert [
        (fault.name, name)
        for fault in FAULTS
        for name in fault.caught
        if layers.get(name.partition("[")[0]) != fault.layer
    ] == []


def test_a_hundred_faults_of_the_server_and_the_device() -> None:
    assert len(FAULTS) >= 100
