"""Reads the profiles of components: conformance/profiles/NAME.toml, or the user's own TOML file."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from conformance.errors import UsageError
from conformance.profiles.model import Known, Owner, Profile, VersionOf
from conformance.tables import read_as
from guests.words import unknown

FOLDER = Path(__file__).parent


class Component(BaseModel):
    """One part of a target with a profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(min_length=1)
    owner: Owner
    """Whose fault its known failures are, unless an entry says otherwise."""
    version_of: VersionOf = "target"
    """What the `versions` of its entries are compared with."""
    profile: Profile = Profile()


def names() -> list[str]:
    """The components that come with the suite."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def component(name: str, asked_by: Path) -> Component:
    """The component called `name`, or read from the TOML file `name`, relative to the file that names it.

    Raises UsageError, one line.
    """
    if not name.endswith(".toml") and name not in names():
        raise UsageError(f"{asked_by}: {unknown('component', name, names())}")
    return _read(component_file(name, asked_by))


def component_file(name: str, asked_by: Path) -> Path:
    """The TOML file of a component, see `component`."""
    return (asked_by.parent / name).absolute() if name.endswith(".toml") else FOLDER / f"{name}.toml"


@functools.cache
def _read(path: Path) -> Component:
    found = read_as(Component, path, f"a component is a TOML file, or one of {', '.join(names())}")
    return found.model_copy(update={"profile": _signed(found.profile, path.stem, found.owner, found.version_of)})


def own_profile(profile: Profile, target: str, owner: Owner = "device") -> Profile:
    """What a target's own [profile] declares: the target is a component of its own."""
    return _signed(profile, target, owner, "target")


def _signed(profile: Profile, name: str, owner: Owner, version_of: VersionOf) -> Profile:
    """The profile, with who declares each known failure and whose fault it is."""
    return profile.model_copy(update={"known": [_signed_entry(k, name, owner, version_of) for k in profile.known]})


def _signed_entry(entry: Known, name: str, owner: Owner, version_of: VersionOf) -> Known:
    for other in [entry.unless] if isinstance(entry.unless, str) else entry.unless:
        if not other.endswith(".toml") and other not in names():
            raise UsageError(f"{name}: profile.known: unless: {unknown('component', other, names())}")
    update: dict[str, Any] = {"component": name, "owner": entry.owner or owner, "version_of": version_of}
    return entry.model_copy(update=update)
