"""The declared faults: tables of TOML files, about the reference server's source or any server's messages.

`tests/mutants/` has them; the format is in docs/selftest.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from conformance.errors import UsageError
from conformance.selftest.rules import Rule
from conformance.tables import Strict, read_as
from conformance.vocabulary import Layer

_Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class SourceFault(Strict):
    """A fault in the source of a server: in `file`, `after` replaces `before`."""

    name: _Name
    of: Literal["server", "guest"] = "server"
    """`guest`: in the agent that makes the guest's system calls, as a kernel with that defect would answer them."""
    file: str
    """A path below reference_server/, below guests/agent/payload/, or below the source of QEMU."""
    before: Annotated[str, Field(min_length=1)]
    """It stands once in the file."""
    after: str
    caught: Annotated[tuple[str, ...], Field(min_length=1)]
    """The cases, with their parameters, each of which must fail for it."""
    layer: Layer = "wire"
    """The layer of those cases."""
    target: str = ""
    """The target that they need; empty for that of their layer (`conformance.selftest.bench.TARGETS`). It brings up the
    faulty server only if it starts the reference server; a fault `of` the guest goes into any."""
    severity: Literal["", "varies"] = ""
    """`varies`: what the cases find may differ between implementations; a gate with a baseline still fails for it."""


class MessageFault(Strict):
    """A fault of any server: a change of its messages."""

    name: _Name
    about: Annotated[str, Field(min_length=1)]
    """What the server does, and which one has done so."""
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    caught: Annotated[tuple[str, ...], Field(min_length=1)]
    """The cases, with their parameters, each of which must not pass for it."""
    says: str = ""
    """A regular expression that one of the findings must match, or the reason of another verdict."""
    verdict: Literal["fail", "undrivable"] = "fail"
    severity: str = ""
    """Of the result, where it is lighter than the case's own."""
    layer: Literal["wire"] = "wire"


class _File(Strict):
    """One TOML file of faults."""

    mutant: tuple[SourceFault, ...] = ()
    message: tuple[MessageFault, ...] = ()


def declared(files: Iterable[Path]) -> tuple[list[SourceFault], list[MessageFault]]:
    """The faults of those files. Raises UsageError, one line."""
    source: list[SourceFault] = []
    messages: list[MessageFault] = []
    for path in files:
        found = read_as(_File, path, "give a TOML file of faults, see docs/selftest.md")
        source += found.mutant
        messages += found.message
    names = [*(one.name for one in source), *(one.name for one in messages)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two faults are called {name!r}: give one of them another name")
    return source, messages
