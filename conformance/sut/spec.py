"""The keys of every target's TOML; each kind's model adds its own tables."""

from __future__ import annotations

from typing import Annotated

from conformance.catalogue import index
from conformance.profiles.model import Profile
from conformance.tables import Strict, word

Layer = Annotated[str, word("layer", index.layers)]


class Target(Strict):
    """One implementation under test as deployed."""

    name: str
    kind: str
    title: str
    layers: tuple[Layer, ...] = ()
    """The layers of a run that names none; empty: all that can be driven."""
    left_out: dict[Layer, str] = {}  # noqa: RUF012 - pydantic copies it
    """Layers that can be driven and are not in `layers`: why a run that names none leaves them out."""
    components: tuple[str, ...] = ()
    """What the target is made of, as far as profiles go: names in conformance/profiles, or TOML files of one's own."""
    profile: Profile = Profile()
    """Once loaded: what the target's own [profile] declares, and then what its components do."""
