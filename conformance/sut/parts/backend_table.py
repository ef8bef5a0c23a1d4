"""[server] of a target whose devices are back ends of this host: the reference server, or any by its command."""

from __future__ import annotations

import os
import shutil
from typing import Annotated

from pydantic import AfterValidator, model_validator

from conformance.errors import UsageError
from conformance.tables import Strict, placeholders
from guests.words import shown

LINES = "lines"
"""The file, in the directory of the server's log, to which the reference server appends the lines that run."""


def _word(text: str) -> str:
    return placeholders(text, ("export", "socket", "tag"))


class BackendTable(Strict):
    """One process for each share."""

    program: str = "reference"
    command: tuple[Annotated[str, AfterValidator(_word)], ...] = ()
    """argv of another back end; {export}, {socket} and {tag} are filled in."""
    arguments: tuple[str, ...] = ()
    """Further arguments for the reference server."""
    lines: bool = False
    """The reference server writes down which of its own lines run: `assay9 explore` is guided by them."""

    @model_validator(mode="after")
    def _some(self) -> BackendTable:
        if self.program != "reference" and not self.command:
            raise ValueError("[server] needs program = 'reference', or a command")
        return self


def check_program(place: str, program: str) -> None:
    """Refuse a program that cannot be run. Raises UsageError."""
    if shutil.which(program) is None:
        raise UsageError(f"{place}: {shown(program)} is not an executable program")


def check_root(target: str) -> None:
    """Refuse to start a server under test without root. Raises UsageError."""
    if os.geteuid() != 0:
        raise UsageError(f"target {target} needs root: a server under test runs contained (try sudo)")
