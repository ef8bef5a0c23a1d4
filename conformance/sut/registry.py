"""The kinds of targets: every package below `conformance.sut` that has a module `kind`, and those of other packages.

A module that declares a kind ends with `register(ItsKind())`. Kinds of other packages are found by the entry point
group `assay9.kinds` (module names), and by the modules that the variable ASSAY9_KINDS names, separated by commas.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import pkgutil
from importlib.metadata import entry_points
from typing import Any, TypeVar

from conformance import sut
from conformance.errors import UsageError
from conformance.sut.kind import Kind
from conformance.sut.options import Declared, RunOptions, declared
from conformance.sut.spec import Target

VARIABLE = "ASSAY9_KINDS"
AnyKind = Kind[Any, Any]
K = TypeVar("K", bound=AnyKind)

_kinds: dict[str, AnyKind] = {}


def register(kind: K) -> K:
    """Register a kind. Raises UsageError if another one has its name."""
    known = _kinds.setdefault(kind.name, kind)
    if known is not kind:
        raise UsageError(
            f"kind {kind.name} is registered twice: by {type(known).__module__} and by {type(kind).__module__}"
        )
    return kind


def kinds() -> dict[str, AnyKind]:
    """Every kind by its name."""
    _find()
    return dict(sorted(_kinds.items()))


def kind_of(target: Target) -> AnyKind:
    """The kind of a target."""
    _find()
    return _kinds[target.kind]


def flags() -> dict[str, Declared]:
    """Every option that some kind has, by the field that holds it."""
    found: dict[str, Declared] = {}
    models: list[type[RunOptions]] = [RunOptions, *(kind.options for kind in kinds().values())]
    for model in models:
        for one in declared(model):
            if found.setdefault(one.field, one) != one:
                raise UsageError(f"option {one.flag.name} is declared twice, and not alike")
    return found


@functools.cache
def _find() -> None:
    for module in pkgutil.iter_modules(sut.__path__):
        name = f"{sut.__name__}.{module.name}.kind"
        if module.ispkg and importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
    others = [point.value for point in entry_points(group="assay9.kinds")]
    for name in (*others, *filter(None, os.environ.get(VARIABLE, "").split(","))):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UsageError(f"kind {name} cannot be imported: {error}") from None
