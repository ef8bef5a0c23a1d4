"""A vantage's listings leave out what a security model keeps beside the guest's files, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.targets import security_models
from conformance.vantage import Vantage
from guests.agentlink import AgentLink, LocalChannel


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Vantage]:
    for name in (".virtfs_metadata", "fred"):
        (tmp_path / name).touch()
    link = AgentLink(LocalChannel())
    link.call("begin_case", str(tmp_path))
    yield Vantage("outside", link, str(tmp_path))
    link.close()


@pytest.mark.parametrize(("model", "shown"), [("passthrough", [".virtfs_metadata", "fred"]), ("mapped-file", ["fred"])])
def test_names_of_the_models_own(outside: Vantage, model: str, shown: list[str]) -> None:
    outside.hides = lambda name: security_models.hidden(model, name)
    assert outside.listdir(".") == shown
    assert [name for name, *_ in outside.entries(".")] == shown
    fd = outside.open(".", os.O_RDONLY | os.O_DIRECTORY)
    listed = [name for name, *_ in outside.getdents(fd)]
    assert sorted(name for name in listed if name not in (".", "..")) == shown
    assert outside.spawn("second").listdir(".") == shown
    assert outside.lstat(".virtfs_metadata")["st_size"] == 0
