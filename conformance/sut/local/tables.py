"""The tables and options of kind `local`."""

from __future__ import annotations

from typing import Literal

from conformance.sut.options import ExportOptions
from conformance.sut.spec import Target


class LocalTarget(Target):
    """It has no keys of its own."""

    kind: Literal["local"]


class LocalOptions(ExportOptions):
    """What tests put between inside and outside; the command line has no option for it."""

    through: tuple[str, ...] = ()
    """argv of a file system in user space: it is given the exported directory and a mount point."""
    inside_root: str = ""
    """Another directory for inside than the exported one."""
