"""Deliberately wrong servers: the case for each fault finds it, and passes without the fault."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.selftest.bench import FaultyRunner, Item, collected, missed, served
from conformance.selftest.declared import MessageFault, declared

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="servers under test are contained, which takes root")

FAULTS = declared([Path(__file__).with_name("messages.toml")])[1]


@pytest.fixture(scope="module")
def items() -> dict[str, list[Item]]:
    return collected("wire")


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyRunner]:
    with served("reference", tmp_path_factory.mktemp("mutants")) as running:
        yield running


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_found(fault: MessageFault, runner: FaultyRunner, items: dict[str, list[Item]]) -> None:
    found = [runner.with_fault(fault.rules, item) for name in fault.caught for item in items[name]]
    assert missed(fault, found) == ""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_case_passes_without_the_fault(fault: MessageFault, runner: FaultyRunner, items: dict[str, list[Item]]) -> None:
    for name in fault.caught:
        for item in items[name]:
            without = runner.with_fault((), item)
            assert without.verdict == "pass", without.reason
