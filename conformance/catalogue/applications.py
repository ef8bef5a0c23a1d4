"""The programs of the layer application: TOML files beside its cases, and those that the user names.

Each says what runs in a directory of a guest, what it needs, and which parts of its result to ignore. The user's files
are named in an environment variable, because separate processes collect the cases.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from conformance.case import CACHES
from conformance.catalogue import index
from conformance.errors import UsageError
from conformance.tables import Strict, read_as, word

FOLDER = index.CASES / "application"
LAYER = "application"
VARIABLE = "ASSAY9_APPLICATIONS"
"""Further TOML files, between colons; `assay9 run --application FILE` sets it."""
TRACER = "strace"
"""The package by which a difference is traced to its call."""


class Application(Strict):
    """One program, or several that work together."""

    title: Annotated[str, Field(min_length=1)]
    script: Annotated[str, Field(min_length=1)]
    """What `sh -eu` runs in an empty directory. What it prints is compared."""
    packages: tuple[str, ...] = ()
    """Debian packages beyond those of every guest image."""
    programs: tuple[str, ...] = ()
    """What must be found in the guest, or it cannot be driven: names of programs, or patterns of paths."""
    paths: dict[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")], str] = Field(default_factory=dict)
    """Variables of the script -> where a build of the user's lies, unless the environment variable ASSAY9_ with that
    name says so; what only this host has is copied into the guest."""
    caches: tuple[Annotated[str, word("cache mode", lambda: CACHES)], ...] = CACHES
    """The cache modes in which it can work at all."""
    needs: tuple[str, ...] = ()
    """Features of the deployment, as cases name them."""
    ignore: tuple[str, ...] = ()
    """Patterns of paths whose content and size differ from run to run: ".git/index"."""
    hide: tuple[str, ...] = ()
    """Regular expressions: what they match in the output is left out of the comparison."""
    seconds: Annotated[float, Field(gt=0, le=3600)] = 300.0
    """How long it may take on the guest's own file system of an emulated guest."""


@functools.cache
def applications() -> dict[str, Application]:
    """Name -> application. Raises UsageError, one line."""
    more = [Path(name) for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    found: dict[str, Application] = {}
    for path in [*sorted(FOLDER.glob("*.toml")), *more]:
        if path.stem in found:
            raise UsageError(f"{path}: there is an application {path.stem} already: give the file another name")
        found[path.stem] = application(path)
    return found


def application(path: Path) -> Application:
    """What a file declares. Raises UsageError, one line."""
    return read_as(Application, path, "an application is a TOML file, see docs/applications.md")


def packages() -> tuple[str, ...]:
    """The packages of all of them, for one guest image."""
    return tuple(sorted({TRACER, *(package for one in applications().values() for package in one.packages)}))
