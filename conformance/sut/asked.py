"""Turns command-line options into the request of a run, and refuses options that do not apply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from conformance.catalogue.applications import LAYER, packages
from conformance.errors import UsageError
from conformance.sut.check import check_target
from conformance.sut.kind import Asked
from conformance.sut.layers import use_of
from conformance.sut.options import ExportOptions, Load
from conformance.sut.registry import flags, kind_of
from conformance.sut.spec import Target
from conformance.tables import problem
from guests.host.file_systems import check_kind


def asked_of(
    target: Target, given: Mapping[str, Any], layers: Sequence[str] = ("vfs",), load: Load | None = None
) -> Asked[Any, Any]:
    """The request for a target; `given` has the options by their fields, and an empty one was not given.

    Raises UsageError for an option that has no meaning for such a run on this target.
    """
    kind, known = kind_of(target), flags()
    options = {field: value for field, value in given.items() if value not in (None, "", (), [], False)}
    use = use_of(target, layers, options.get("link"))
    for field in options:
        if field not in kind.options.model_fields:
            why = known[field].flag.elsewhere if field in known else "has no such option"
            raise UsageError(f"{_spelt(field)} does not apply: target {target.name} {why} (its kind is {kind.name})")
    if "link" in options and not use.below:
        raise UsageError("--link does not apply: it is for the layers wire and ring; add --layer wire or ring")
    if "requests" in options and not use.below:
        raise UsageError("--requests does not apply: it is for the layer wire; add --layer wire")
    for field, why in kind.unused(target, use):
        if field in options:
            raise UsageError(f"{_spelt(field)} does not apply: {why}")
    if LAYER in layers and load is None:
        load = Load(packages=packages())
    try:
        return Asked(target, kind.options(**options), use, load)
    except ValidationError as error:
        said, field = problem(error, kind.options), str(error.errors()[0]["loc"][0])
        raise UsageError(said.replace(field, _spelt(field), 1)) from None


def check(asked: Asked[Any, Any]) -> None:
    """Refuse an impossible request before anything slow starts: an unknown word, a missing program.

    Raises UsageError or InfrastructureError, one line.
    """
    check_target(asked.target)
    if isinstance(asked.options, ExportOptions) and asked.options.export_fs:
        check_kind(asked.options.export_fs)
    kind_of(asked.target).check(asked)


def _spelt(field: str) -> str:
    known = flags()
    return known[field].flag.name if field in known else field
