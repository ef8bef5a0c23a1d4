"""Checks every word of a target's TOML against what exists, before anything starts.

The model of the target's kind has refused unknown tables and keys. This module checks what needs more than the file:
existing cases and mounts, drivable layers, and the kind's own checks. Each refusal is a UsageError of one line.
"""

from __future__ import annotations

import fnmatch
import re
from itertools import product

from conformance.case import CACHES
from conformance.catalogue.index import index
from conformance.errors import UsageError
from conformance.profiles.model import Profile
from conformance.sut.layers import check_layers, left_out
from conformance.sut.parts.devices.security_models import MODELS
from conformance.sut.registry import kind_of
from conformance.sut.spec import Target
from conformance.vfs.mount_options import ACCESS, VERSIONS, MountOptions
from guests.words import did_you_mean, shown, unknown


def check_target(target: Target) -> None:
    """Refuse an unknown word in the target's TOML. Raises UsageError."""
    try:
        kind_of(target).check_target(target)
        check_layers(target, target.layers)
        for layer in target.left_out:
            if layer not in left_out(target):
                raise UsageError(
                    f"left_out.{layer}: a run without --layer includes it, or it cannot be driven: remove the entry"
                )
        check_profile(target.profile)
    except UsageError as error:
        raise UsageError(f"target {target.name}: {error}") from None


def check_profile(profile: Profile) -> None:
    """Refuse entries about cases, mounts, guests or security models that do not exist. Raises UsageError."""
    for entry in profile.known:
        where = f"component {entry.component}: " if entry.component else ""
        try:
            for pattern in entry.cases:
                _check_case(pattern)
            _check_mount(entry.mount, entry.cases[0])
            for model in entry.models:
                if not any(fnmatch.fnmatchcase(one, model) for one in MODELS):
                    raise UsageError(f"known failure of {entry.cases[0]}: {unknown('security model', model, MODELS)}")
        except UsageError as error:
            raise UsageError(f"{where}{error}") from None


def _check_case(pattern: str) -> None:
    """`pattern` as `Known.names` reads it: a case id or id[parameters], `*` within either."""
    wanted, bracket, inner = pattern.partition("[")
    known = index()
    named = [known[id] for id in known if fnmatch.fnmatchcase(id, wanted)]
    if not named:
        raise UsageError(f"known failure of an {unknown('case', wanted, known, 'assay9 cases')}")
    if not bracket:
        return
    if not inner.endswith("]"):
        raise UsageError(f"known failure of case {shown(pattern)}: its bracket is not closed")
    parameters = [parameter for entry in named for parameter in entry.parameters]
    if not any(fnmatch.fnmatchcase(parameter, inner[:-1]) for parameter in parameters):
        raise UsageError(f"known failure of case {wanted}: {unknown('parameter', inner[:-1], parameters)}")


def _check_mount(pattern: str, case: str) -> None:
    sizes = {131_072, 8192, *(int(number) for number in re.findall(r"msize=(\d+)", pattern))}
    grid = product(CACHES, sizes, (*ACCESS, "0"), VERSIONS, (False, True))
    if any(fnmatch.fnmatchcase(str(MountOptions(*options)), pattern) for options in grid):
        return
    words = [*(f.split("=")[0] for f in MountOptions.__slots__), *CACHES, *ACCESS, *VERSIONS]
    said = [word for word in re.findall(r"[A-Za-z0-9_.]+", pattern) if word not in words and not word.isdigit()]
    near = next(filter(None, (did_you_mean(word, words) for word in said)), "")
    raise UsageError(f"known failure of {case}: no mount is called {shown(pattern)}{near or ', as --mount spells it'}")
