"""Every option and argument of every command gets wrong values: the command prints one line, or it starts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from assay9.cli import cli
from conformance.catalogue.index import index
from tests.cli.conftest import STARTED, Command, starts

# Not even root can write to these paths: a value that is accepted must leave nothing outside the test's directory.
WRONG = (
    "",
    " ",
    "-1",
    "0",
    "nope",
    "99999999999999999999",
    "1e400",
    "/proc/nonexistent/x",
    "/proc",
    "/dev/null",
    "a\nb",
    "\udcff",
    "\N{SNOWMAN}" * 300,
    "{",
    "%s",
    "x=y",
    "x.y=z",
    "\N{SUPERSCRIPT TWO}",
    "[",
    "latest",
)

NEEDED: dict[str, list[str]] = {
    "run": ["reference"],
    "soak run": ["local"],
    "soak resume": ["latest"],
    "compare": ["a", "b"],
    "serve": ["."],
    "frames": ["nothing"],
}
"""Further arguments that a command needs."""
FOR_OPTION: dict[str, list[str]] = {
    "run --qemu": ["qemu"],
    "run --qemu-arg": ["qemu"],
    "run --image": ["qemu"],
    "run --security-model": ["qemu"],
    "run --mount": ["local"],
    "run --mounts": ["local"],
    "run --control": ["local"],
    "run --address": ["socket"],
    "run --aname": ["socket", "--address", "127.0.0.1:1"],
    "run --export": ["socket", "--address", "127.0.0.1:1"],
    "soak run --qemu": ["qemu"],
    "soak run --image": ["qemu"],
    "cases --proof": ["--matrix"],
}
"""Further arguments without which an option has no meaning."""
SLOW = {
    "guest boot --qemu-arg",
    "run --qemu-arg",
    "profile check 0",
    "run --image",
    "soak run --image",
    "soak run --qemu",
}
"""Each value costs a start of QEMU, or the reading of all profiles."""
DONE = (0, 1, 2, 3, STARTED)
OURS = ("Traceback", "internal error", "the details are in")
"""Texts that only a defect of the suite prints."""
LEFT_OUT = {"doctor"}
"""It takes only flags, and runs for seconds."""


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command with its name as a user types it."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        elif f"{path}{name}" not in LEFT_OUT:
            yield f"{path}{name}", command


def places() -> Iterator[tuple[str, str]]:
    """(command, option), or (command, number of the argument)."""
    for name, command in commands(cli):
        number = 0
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                if parameter.nargs == 1:
                    yield name, str(number)
                    number += 1
            elif isinstance(parameter, click.Option) and not parameter.is_flag and not parameter.count:
                yield name, max(parameter.opts, key=len)


PLACES = list(places())


@pytest.fixture
def harmless(assay9: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """The command, which can neither serve nor change other users' entries in the cache."""
    index()  # from the existing cache
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(logging, "basicConfig", starts)
    return assay9


@pytest.mark.parametrize(("command", "place"), PLACES)
def test_wrong_values_are_refused_in_one_line(harmless: Command, command: str, place: str) -> None:
    where = f"{command} {place}"
    for value in WRONG[:: 5 if where in SLOW else 1]:
        arguments = list(FOR_OPTION.get(where, NEEDED.get(command, [])))
        if place.isdigit():
            arguments[int(place) : int(place) + 1] = [value]
        else:
            arguments += [place, value]
        seen = harmless(*command.split(" "), *arguments)
        reported = f"{command} {arguments!r}: {seen}"
        assert seen.status in DONE, reported
        assert not any(word in seen.out + seen.err for word in OURS), reported
        if seen.status in (2, 3):
            assert len(seen.err.splitlines()) == 1 and seen.err.startswith("assay9: "), reported


def test_every_command_is_tried() -> None:
    assert {command for command, _ in PLACES} >= {
        "cases",
        "compare",
        "frames",
        "report",
        "run",
        "serve",
        "guest boot",
        "guest build",
        "guest console",
        "guest ssh",
        "soak report",
        "soak resume",
        "soak run",
        "soak status",
    }
