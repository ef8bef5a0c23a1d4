"""What the command line of a soak says about its length and about the options of its workloads."""

from __future__ import annotations

from typing import Any

from conformance.errors import UsageError
from guests.words import shown, unknown
from soak.plan import seconds_of
from soak.workloads import find
from soak.workloads.kernel_build import KERNEL_BUILD


def limit_of(length: str | None, iterations: int | None, first: int) -> float | None:
    """Seconds after which the run ends, or None if only its iterations are limited. Raises UsageError."""
    if iterations is not None and first >= iterations:
        raise UsageError(
            f"--first {first} --iterations {iterations} selects no iteration; "
            f"iteration {first} alone is --first {first} --iterations {first + 1}"
        )
    if length is not None:
        return seconds_of(length)
    return 86400.0 if iterations is None else None


def settings_of(settings: tuple[str, ...], unit: str | None, workloads: list[str]) -> dict[str, dict[str, Any]]:
    """`tree.steps=1000` as {"tree": {"steps": 1000}}. Raises UsageError, even for a workload that is not selected."""
    made: dict[str, dict[str, Any]] = {}
    if unit is not None:
        if KERNEL_BUILD.name not in workloads:
            raise UsageError(
                f"--unit {shown(unit)} applies to workload {KERNEL_BUILD.name}, which is not selected: "
                f"leave it out, or add --workload {KERNEL_BUILD.name}"
            )
        settings = (*settings, f"{KERNEL_BUILD.name}.unit={unit}")
    for text in settings:
        place, equals, value = text.partition("=")
        name, dot, key = place.partition(".")
        if not (equals and dot and key):
            raise UsageError(f"--set {shown(text)}: give WORKLOAD.KEY=VALUE, e.g. tree.steps=1000")
        known = find(name).options
        if key not in known:
            raise UsageError(f"--set {shown(text)}: {unknown(f'option of {name}', key, known)}")
        if name not in workloads:
            raise UsageError(f"--set {shown(text)}: workload {name} is not selected: add --workload {name}")
        whole = value.isascii() and value.isdigit()
        if isinstance(known[key], int) and not whole:
            raise UsageError(f"--set {shown(text)}: give a whole number, e.g. {name}.{key}={known[key]}")
        if not value:
            raise UsageError(f"--set {shown(text)}: give a value, e.g. {name}.{key}={known[key]}")
        made.setdefault(name, {})[key] = int(value) if isinstance(known[key], int) else value
    for workload in map(find, workloads):
        if workload.check is not None:
            workload.check({**workload.options, **made.get(workload.name, {})})
    return made
