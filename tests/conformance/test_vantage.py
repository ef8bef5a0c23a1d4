"""A vantage's listings leave out what a security model keeps beside the guest's files, and nothing else."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.checks import collecting, findings_of
from conformance.errors import Finding
from conformance.sut.parts.devices import security_models
from conformance.vfs.vantage import Vantage
from guests.agent.link import AgentLink
from guests.agent.local_channel import LocalChannel


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Vantage]:
    for name in (".virtfs_metadata", "fred"):
        (tmp_path / name).touch()
    link = AgentLink(LocalChannel())
    link.calls.begin_case(str(tmp_path))
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


class TestFindings:
    """An error in a call is a finding that names the call, and the case continues if it can."""

    def test_an_unexpected_errno_names_its_call(self, outside: Vantage) -> None:
        with pytest.raises(OSError) as raised:
            outside.open("none", os.O_RDONLY)
        (found,) = findings_of(raised.value)
        assert found.code == "errno" and str(found) == "outside: open('none', 0) failed with ENOENT"
        assert found.values == {
            "call": "open",
            "arguments": "'none', 0",
            "vantage": "outside",
            "process": "main",
            "seen": "ENOENT",
            "expected": "success",
        }

    def test_one_of_the_suite_s_own_calls_too(self, outside: Vantage) -> None:
        with pytest.raises(OSError) as raised:
            outside.quietly.hash_file("none")
        (found,) = findings_of(raised.value)
        assert str(found) == "outside: hash_file('none') failed with ENOENT" and found.values["call"] == "hash_file"

    def test_every_call_that_is_not_refused_as_it_must_be(self, outside: Vantage) -> None:
        with collecting() as found:
            assert outside.refuses(errno.EACCES, because="a man page").open("none", os.O_RDONLY) == errno.ENOENT
            assert outside.refuses(errno.EACCES, errno.EPERM).stat("fred") == 0
            assert outside.refuses(errno.ENOENT).stat("none") == errno.ENOENT
        assert [(f.code, f.values["call"], f.values["seen"], f.values["expected"]) for f in found] == [
            ("errno", "open", "ENOENT", "EACCES"),
            ("errno", "stat", "success", "EACCES or EPERM"),
        ]
        assert str(found[0]) == "outside: open('none', 0) failed with ENOENT, expected EACCES (a man page)"

    def test_a_refusal_with_another_errno_may_be_lighter_than_none(self, outside: Vantage) -> None:
        with collecting() as found:
            outside.refuses(errno.EACCES, another="varies").open("none", os.O_RDONLY)
            outside.refuses(errno.EACCES, another="varies").stat("fred")
        assert [(f.values["seen"], f.severity) for f in found] == [("ENOENT", "varies"), ("success", None)]

    def test_a_call_that_hangs(self, outside: Vantage) -> None:
        os.mkfifo(f"{outside.root}/fifo")
        outside.timeout = 1.0
        with pytest.raises(Finding) as raised:
            outside.open("fifo", os.O_RDONLY)
        assert raised.value.code == "hung" and raised.value.values["call"] == "open"
