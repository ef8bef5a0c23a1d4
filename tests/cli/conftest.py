"""Runs commands in this process; everything that would start a guest or a test run is replaced."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import guests.cli
import soak.cli
from assay9 import cli
from guests.machines.qemu.machine import QemuMachine
from guests.machines.uml.machine import UmlMachine
from guests.machines.v86.machine import V86Machine

STARTED = 77
"""Exit status of a command that has accepted all its arguments and would start now."""


@dataclass(frozen=True, slots=True)
class Said:
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str

    def one_line(self) -> str:
        """The only line that the command printed."""
        lines = self.err.splitlines()
        assert len(lines) == 1 and not self.out, f"{self.out}{self.err}"
        return lines[0]


Command = Callable[..., Said]


def starts(*_: object, **__: object) -> None:
    """Replaces what would start something."""
    raise SystemExit(STARTED)


@pytest.fixture
def assay9(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, private_runtime: Path
) -> Command:
    """The command in an empty directory; it ends before it starts anything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pytest, "main", starts)
    monkeypatch.setattr(soak.cli, "work", starts)
    monkeypatch.setattr(guests.cli, "ensure_image", starts)
    monkeypatch.setattr(guests.cli, "ensure_private_qemu", starts)
    monkeypatch.setattr(guests.cli, "_FURTHER", dict.fromkeys(guests.cli._FURTHER, starts))
    for machine in (QemuMachine, UmlMachine, V86Machine):
        monkeypatch.setattr(machine, "start", starts)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["assay9", *arguments])
        capfd.readouterr()
        status = cli.main()
        out, err = capfd.readouterr()
        return Said(status, out, err)

    return run
