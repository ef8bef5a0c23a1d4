"""What a target's TOML may say, checked before anything slow starts.

Each kind of target adds a table of its own ([machine] for a hypervisor with a guest, [server] for a server
reached by raw frames); the models here hold what all share. A misspelt key is refused with the nearest valid one.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from conformance.errors import UsageError
from conformance.profiles.load import component, own_profile
from conformance.profiles.model import Known, Lack, Override, Profile, compose, version_matches

__all__ = [
    "Known", "Lack", "MachineTable", "Override", "Profile", "Strict", "Target", "load", "names", "version_matches",
]  # fmt: skip

FOLDER = Path(__file__).parent


class Strict(BaseModel):
    """A table whose unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MachineTable(Strict):
    """[machine]: a hypervisor with a guest. `program` is the hypervisor; `image` the guest image's name."""

    program: str = "qemu-system-x86_64"
    image: str = "debian12"
    arguments: list[str] = []
    security_model: Literal["passthrough", "mapped-xattr", "mapped-file", "none"] = "passthrough"
    multidevs: Literal["remap", "forbid", "warn"] = "remap"
    memory_mb: int = 512


class Target(Strict):
    """One implementation under test as deployed."""

    name: str
    kind: Literal["qemu", "local", "server", "tcp", "uml", "v86"]
    title: str
    layers: list[str] = []
    components: list[str] = []
    """What the target is made of, as far as profiles go: names in conformance/profiles, or TOML files of one's own."""
    machine: MachineTable = MachineTable()
    server: dict[str, Any] = {}
    """Validated by the kind's own model (conformance.servers.spec)."""
    profile: Profile = Profile()
    """Once loaded: what the target's own [profile] declares, and then what its components do."""


def names() -> list[str]:
    """Every target that has a TOML here."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


def load(name_or_path: str) -> Target:
    """The target of that name, or of a TOML file's path, with what its components declare.

    Raises UsageError, one line.
    """
    path = Path(name_or_path) if name_or_path.endswith(".toml") else FOLDER / f"{name_or_path}.toml"
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"unknown target {name_or_path!r}{_nearest(name_or_path, names())}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UsageError(f"{path}: not TOML: {e}") from None
    try:
        target = Target(name=path.stem, **table)
    except ValidationError as e:
        raise UsageError(f"{path}: {_first_error(e)}") from None
    except TypeError as e:
        raise UsageError(f"{path}: {e}") from None
    declared = [own_profile(target.profile, path.stem), *(component(name, path).profile for name in target.components)]
    return target.model_copy(update={"profile": compose(declared)})


def _first_error(e: ValidationError) -> str:
    # a key that is misspelt is also one that is missing: name what was written
    error = next((error for error in e.errors() if error["type"] == "extra_forbidden"), e.errors()[0])
    where = ".".join(str(p) for p in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {where!r}{_nearest(str(error['loc'][-1]), _keys_at(error['loc'][:-1]))}"
    return f"{where}: {error['msg']}"


def _keys_at(loc: tuple[int | str, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {"machine": MachineTable, "profile": Profile, "lacks": Lack, "known": Known,
                                       "rules": Override}  # fmt: skip
    named = [str(p) for p in loc if isinstance(p, str)]
    return list((models[named[-1]] if named else Target).model_fields)


def _nearest(name: str, valid: Any) -> str:
    near = difflib.get_close_matches(name, list(valid), 1, 0.5)
    return f": did you mean {near[0]!r}?" if near else f": one of {', '.join(sorted(valid))} is wanted"
