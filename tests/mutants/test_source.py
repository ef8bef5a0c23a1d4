"""A fault in the source of the reference server is found by the cases that are there for it."""

from __future__ import annotations

import os

import pytest

from tests.mutants.source import Mutant, declared, failures, made

MUTANTS = declared()

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="servers under test are contained, which takes root")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_fault_can_be_put_in(mutant: Mutant) -> None:
    with made(mutant) as directory:
        assert mutant.after in (directory / "reference_server" / mutant.file).read_text()


@needs_root
@pytest.mark.long
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_fault_is_found(mutant: Mutant) -> None:
    names = " or ".join(sorted({name.partition("[")[0] for name in mutant.caught}))
    found = failures(mutant, ["-k", names])
    assert set(mutant.caught) <= set(found), found
