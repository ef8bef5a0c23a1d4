"""A typing error in a copy of a shipped target: in every key, table and placeholder, one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from conformance.errors import UsageError
from conformance.sut.hypervisor.kind import check_files, check_programs, values_of
from conformance.sut.hypervisor.tables import HypervisorTarget
from conformance.sut.load import load
from guests.agent.hosts import LocalHost
from tests.targets import asked

SHIPPED = ("bhyve-illumos", "bhyve-freebsd", "kvmtool", "crosvm", "cloud-libvirt", "proxmox", "qemu-remote")
_WORDS = (
    re.compile(r"^(\w+) =", re.MULTILINE),
    re.compile(r"^\[(\w+)\]$", re.MULTILINE),
    re.compile(r'^kind = "(\w+)"', re.MULTILINE),
    re.compile(r'^components = .*"([\w-]+)"', re.MULTILINE),
    re.compile(r"\{(\w+)\}"),
)


def misspelt(word: str) -> str:
    """The word with two letters near its middle exchanged, or with one more letter if that changes nothing."""
    at = len(word) // 2
    if len(word) < 3 or word[at - 1] == word[at]:
        return word + word[-1]
    return word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :]


def mistakes(text: str) -> Iterator[tuple[str, str]]:
    """Each intended word, with the text in which it is misspelt once. Comments stay unchanged."""
    comments = [found.span() for found in re.finditer(r"^#.*$", text, re.MULTILINE)]
    for words in _WORDS:
        for found in words.finditer(text):
            begin, end = found.span(1)
            if not any(one <= begin < other for one, other in comments):
                yield found[1], text[:begin] + misspelt(found[1]) + text[end:]


@pytest.mark.parametrize("name", SHIPPED)
def test_each_word_of_a_shipped_target_is_answered_by_one_line(name: str, tmp_path: Path) -> None:
    text, mine = Path(str(files("conformance.targets") / f"{name}.toml")).read_text(), tmp_path / "mine.toml"
    tried = 0
    for meant, wrong in mistakes(text):
        mine.write_text(wrong)
        with pytest.raises(UsageError) as refused:
            load(str(mine))
        said = str(refused.value)
        assert re.search(rf"\b{meant}\b", said) and "\n" not in said, (meant, said)
        tried += 1
    assert tried > 30


def values(**given: str) -> tuple[HypervisorTarget, dict[str, str]]:
    made = asked("qemu-remote", outside="/srv", value=tuple(f"{key}={value}" for key, value in given.items()))
    assert isinstance(made.target, HypervisorTarget)
    return made.target, values_of(made)


def test_a_value_that_names_no_program_or_file_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "debian.qcow2").touch()
    disk = f"{tmp_path}/debian.qcow2"
    with pytest.raises(UsageError, match=r"machine.version: this host has no program 'ehco': did you mean 'echo'\?"):
        check_programs(*values(disk=disk, qemu="ehco"), LocalHost())
    check_files(*values(disk=disk), LocalHost())
    with pytest.raises(UsageError, match=r"disk: this host has no '.*/debain.qcow2': did you mean '.*/debian.qcow2'\?"):
        check_files(*values(disk=f"{tmp_path}/debain.qcow2"), LocalHost())
    with pytest.raises(UsageError, match=r"--value disk: this host has no '/nowhere/at/all'$"):
        check_files(*values(disk="/nowhere/at/all"), LocalHost())
