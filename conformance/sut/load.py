"""Loads a target by its name or by the path of a TOML file."""

from __future__ import annotations

import functools
import hashlib
import operator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from conformance.errors import UsageError
from conformance.profiles.load import component, component_file, own_profile
from conformance.profiles.model import compose
from conformance.sut.registry import kind_of, kinds
from conformance.sut.spec import Target
from conformance.tables import problem, read
from guests.words import unknown

FOLDER = Path(__file__).parent.parent / "targets"


def names() -> list[str]:
    """Every target that comes with the suite."""
    return sorted(p.stem for p in FOLDER.glob("*.toml"))


def union() -> Any:
    """The models of all kinds."""
    return functools.reduce(operator.or_, [kind.model for kind in kinds().values()])


@functools.cache
def schema() -> TypeAdapter[Target]:
    """The schema of a target's TOML: the models of all kinds, distinguished by the key `kind`."""
    whole: Any = Annotated[union(), Field(discriminator="kind")]
    return TypeAdapter(whole)


def files_of(name_or_path: str) -> dict[str, str]:
    """The target's TOML and those of its components: path -> SHA-256. Raises UsageError as `load` does."""
    path = _path(name_or_path)
    components = load(name_or_path).components
    files = [path, *(component_file(name, path) for name in components)]
    return {_shown(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _shown(file: Path) -> str:
    """The path for a reader: relative to the suite, or on the user's machine."""
    suite = FOLDER.parent.parent
    return str(file.relative_to(suite)) if file.is_relative_to(suite) else str(file)


def _path(name_or_path: str) -> Path:
    own = name_or_path.endswith(".toml") or "/" in name_or_path
    return Path(name_or_path) if own else FOLDER / f"{name_or_path}.toml"


def load(name_or_path: str) -> Target:
    """The target with that name, or from a TOML file, with the profiles of its components.

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
        raise UsageError(f"{path}: name: a target has the name of its file; leave the key out")
    try:
        target = schema().validate_python({"name": path.stem, **table})
    except ValidationError as error:
        raise UsageError(f"{path}: {problem(error, union())}") from None
    mine = own_profile(target.profile, path.stem, kind_of(target).owner)
    declared = [mine, *(component(name, path).profile for name in target.components)]
    return target.model_copy(update={"profile": compose(declared, list(target.components))})
