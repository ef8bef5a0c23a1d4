"""What a target's TOML may say, checked before anything slow starts.

Each kind of target adds a table of its own ([machine] for a hypervisor with a guest, [server] for a server
reached by raw frames); the models here hold what all share. A misspelt key is refused with the nearest valid one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from conformance.catalogue import index
from conformance.errors import UsageError
from conformance.profiles.load import component, component_file, own_profile
from conformance.profiles.model import Known, Lack, Override, Owner, Profile, compose, version_matches
from conformance.tables import problem, read, word
from guests.words import unknown

__all__ = [
    "BackendTable",
    "Known",
    "Lack",
    "MachineTable",
    "Override",
    "Profile",
    "Strict",
    "Target",
    "load",
    "names",
    "version_matches",
]

FOLDER = Path(__file__).parent.parent / "targets"


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


class BackendTable(Strict):
    """[server] of a target whose devices are back ends."""

    program: str = "reference"
    command: tuple[str, ...] = ()
    """argv of another back end; {export}, {socket} and {tag} are filled in."""
    arguments: tuple[str, ...] = ()
    """Further arguments for the reference server."""


class Target(Strict):
    """One implementation under test as deployed."""

    name: str
    kind: Literal["qemu", "local", "server", "tcp", "uml", "v86"]
    title: str
    layers: list[Annotated[str, word("layer", index.layers)]] = []
    """The layers of a run that names none; empty: all that can be driven."""
    left_out: dict[Annotated[str, word("layer", index.layers)], str] = {}
    """Layers that can be driven and are not in `layers`: why a run that names none leaves them out."""
    components: list[str] = []
    """What the target is made of, as far as profiles go: names in conformance/profiles, or TOML files of one's own."""
    machine: MachineTable = MachineTable()
    server: dict[str, Any] = {}
    """Validated by the kind's own model (conformance.sut.servers.spec)."""
    profile: Profile = Profile()
    """Once loaded: what the target's own [profile] declares, and then what its components do."""


def names() -> list[str]:
    """Every target that has a TOML here."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


def files_of(name_or_path: str) -> dict[str, str]:
    """The target's TOML and those of its components: path -> SHA-256. Raises UsageError as `load` does."""
    path = _path(name_or_path)
    components = load(name_or_path).components
    files = [path, *(component_file(name, path) for name in components)]
    return {_shown(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _shown(file: Path) -> str:
    """As a reader finds it: in the suite, or on the user's machine."""
    suite = FOLDER.parent.parent
    return str(file.relative_to(suite)) if file.is_relative_to(suite) else str(file)


def _path(name_or_path: str) -> Path:
    own = name_or_path.endswith(".toml") or "/" in name_or_path
    return Path(name_or_path) if own else FOLDER / f"{name_or_path}.toml"


def load(name_or_path: str) -> Target:
    """The target of that name, or of a TOML file's path, with what its components declare.

    Raises UsageError, one line.
    """
    path = _path(name_or_path)
    try:
        table = read(path)
    except FileNotFoundError:
        if path.parent != FOLDER:
            raise UsageError(f"no file {path}: a target is a TOML file, or a name of `assay9 targets`") from None
        raise UsageError(unknown("target", name_or_path, names())) from None
    if "name" in table:
        raise UsageError(f"{path}: name: a target is called as its file is; leave the key out")
    try:
        target = Target(name=path.stem, **table)
    except ValidationError as e:
        raise UsageError(f"{path}: {problem(e, Target)}") from None
    owner: Owner = "server" if target.kind == "server" else "device"
    mine = own_profile(target.profile, path.stem, owner)
    declared = [mine, *(component(name, path).profile for name in target.components)]
    return target.model_copy(update={"profile": compose(declared, target.components)})
