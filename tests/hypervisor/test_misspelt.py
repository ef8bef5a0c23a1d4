"""A typing error in a copy of a shipped target: in every key, table and placeholder, one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from conformance.errors import InfrastructureError, UsageError
from conformance.sut.hypervisor.kind import check_choices, check_files, check_programs, values_of
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


PROGRAMS = {
    "virsh": 'test "$2" = qemu:///system || { echo "error: no connection driver available" >&2; exit 1; }\n'
    'case "$5" in --name) echo debian; echo "old debian"; echo;; --uuid) echo 6695eb01-f6a4;; esac',
    "zoneadm": "printf 'global\\nvm\\n'",
    "qm": "echo '      VMID NAME                 STATUS'; echo '       104 debian               running'",
    "ifconfig": "echo 'em0 lo0 tap0 bridge0'",
}
"""What the list commands of the shipped targets print on their hosts: virsh(1), zoneadm(8), qm(1), ifconfig(8)."""


def choose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, *given: str) -> None:
    """Check the values of a shipped target on a host that has these programs."""
    for program, text in PROGRAMS.items():
        (tmp_path / program).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    made = asked(name, guest="root@vm", outside="/srv", value=given)
    assert isinstance(made.target, HypervisorTarget)
    check_choices(made.target, values_of(made), LocalHost())


@pytest.mark.parametrize(
    ("name", "right", "wrong", "said"),
    [
        ("cloud-libvirt", "domain=debian", "domain=debain", r"unknown domain 'debain': did you mean 'debian'\?"),
        ("cloud-libvirt", "domain=old debian", "domain=od debian", r"did you mean 'old debian'\?"),
        (
            "cloud-libvirt",
            "domain=6695eb01-f6a4",
            "domain=zzz",
            r"unknown domain 'zzz': use one",
        ),
        (
            "bhyve-illumos",
            "zone=vm",
            "zone=vmm",
            r"--value zone: unknown zone 'vmm': did you mean 'vm'\? \(this host\)",
        ),
        ("proxmox", "id=104", "id=140", r"unknown id '140': did you mean '104'\?"),
        ("bhyve-freebsd", "tap=tap0", "tap=tpa0", r"unknown tap 'tpa0': did you mean 'tap0'\?"),
    ],
)
def test_a_misspelt_machine_of_the_hypervisor_is_refused_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, right: str, wrong: str, said: str
) -> None:
    disk = ("disk=/d",) if name == "bhyve-freebsd" else ()
    choose(monkeypatch, tmp_path, name, right, *disk)
    with pytest.raises(UsageError, match=said):
        choose(monkeypatch, tmp_path, name, wrong, *disk)


def test_a_list_command_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = "choices.domain failed on this host with status 1: error: no connection driver available"
    with pytest.raises(InfrastructureError, match=said):
        choose(monkeypatch, tmp_path, "cloud-libvirt", "domain=debian", "uri=qemu:///nowhere")


def test_choices_are_of_values(tmp_path: Path) -> None:
    text = Path(str(files("conformance.targets") / "cloud-libvirt.toml")).read_text()
    (tmp_path / "mine.toml").write_text(text.replace("[choices]\ndomain", f"[choices]\n{misspelt('domain')}"))
    with pytest.raises(UsageError, match=r"choices: unknown key of \[values\] '\w+': did you mean 'domain'\?"):
        load(str(tmp_path / "mine.toml"))
