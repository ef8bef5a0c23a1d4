"""What a target of kind `local` may say, and what tests may ask of it."""

from __future__ import annotations

from typing import Literal

from conformance.sut.options import ExportOptions
from conformance.sut.spec import Target


class LocalTarget(Target):
    """It has no keys of its own."""

    kind: Literal["local"]


class LocalOptions(ExportOptions):
    """With what tests put between inside and outside, of which the command line has none."""

    through: tuple[str, ...] = ()
    """argv of a file system in user space: it is given the exported directory and a mount point."""
    inside_root: str = ""
    """Another directory for inside than the exported one."""
