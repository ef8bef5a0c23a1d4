"""The tables and options that several kinds with a guest share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from conformance.sut.options import ExportOptions, Flag
from conformance.tables import Strict, word
from guests.images.recipe import recipe_names

IMAGE = word("guest image", recipe_names)


class GuestTable(Strict):
    """[machine] of a guest for which the suite has an image."""

    image: Annotated[str, IMAGE] = "debian12"
    memory_mb: int = Field(default=512, ge=1)


class GuestOptions(ExportOptions):
    """A guest with another image."""

    image: Annotated[
        Annotated[str, IMAGE] | None,
        Flag(
            "--image",
            "The guest image instead of the target's: debian11, debian12, debian13, debian-testing.",
            "has no guest to choose",
            metavar="IMAGE",
            chooses=True,
            soak=True,
        ),
    ] = None
