"""Reading what components declare: conformance/profiles/NAME.toml, or a TOML file of the user's own."""

from __future__ import annotations

import difflib
import functools
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.errors import UsageError
from conformance.profiles.model import Known, Owner, Profile, VersionOf

FOLDER = Path(__file__).parent


class Component(BaseModel):
    """One part of a target that declares something about itself."""

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
    """The component called `name`, or read from the TOML file `name`, taken from where the asking file stands.

    Raises UsageError, one line.
    """
    if name.endswith(".toml"):
        return _read((asked_by.parent / name).absolute())
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(names())}"
        raise UsageError(f"{asked_by}: unknown component {name!r}: {hint}")
    return _read(FOLDER / f"{name}.toml")


@functools.cache
def _read(path: Path) -> Component:
    try:
        read = Component.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as e:
        raise UsageError(f"{path} cannot be read: {e.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UsageError(f"{path}: not TOML: {e}") from None
    except ValidationError as e:
        raise UsageError(f"{path}: {_first(e)}") from None
    return read.model_copy(update={"profile": _signed(read.profile, path.stem, read.owner, read.version_of)})


def own_profile(profile: Profile, target: str, owner: Owner = "device") -> Profile:
    """What a target's own [profile] declares: the target is a component of its own."""
    return _signed(profile, target, owner, "target")


def _signed(profile: Profile, name: str, owner: Owner, version_of: VersionOf) -> Profile:
    """The profile with each known failure saying who declares it and whose fault it is."""
    return profile.model_copy(update={"known": [_signed_entry(k, name, owner, version_of) for k in profile.known]})


def _signed_entry(entry: Known, name: str, owner: Owner, version_of: VersionOf) -> Known:
    update: dict[str, Any] = {"component": name, "owner": entry.owner or owner, "version_of": version_of}
    return entry.model_copy(update=update)


def _first(error: ValidationError) -> str:
    # a key that is misspelt is also one that is missing: name what was written
    found = next((one for one in error.errors() if one["type"] == "extra_forbidden"), error.errors()[0])
    where = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return f"unknown key {where!r}"
    return f"{where}: {found['msg'].removeprefix('Value error, ')}"
