"""Whether a fault is found by one family alone: what that family is there for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from conformance.catalogue.index import index
from conformance.errors import SuiteError
from conformance.selftest.bench import Item, missed, on_mutant
from conformance.selftest.declared import SourceFault


@dataclass(frozen=True, slots=True)
class Family:
    """A family, and the faults that only its cases are declared to find."""

    layer: str
    name: str
    faults: tuple[SourceFault, ...]


def families_of(faults: Sequence[SourceFault]) -> Iterator[Family]:
    """The families of the layers, with the faults of each, those first that were written for one family."""
    found: dict[tuple[str, str], list[SourceFault]] = {}
    for fault in faults:
        names = {index()[name.partition("[")[0]].family for name in fault.caught}
        if len(names) == 1:
            found.setdefault((fault.layer, names.pop()), []).append(fault)
    for (layer, name), own in sorted(found.items()):
        yield Family(layer, name, tuple(own))


def elsewhere(fault: SourceFault, family: str, items: Mapping[str, Sequence[Item]]) -> str:
    """The first case of another family of the layer that finds the fault, too; empty where none does.

    Each case is tried on one mount. Raises SuiteError where the fault is not found by its own cases.
    """
    own = [item for name in fault.caught for item in items.get(name, [])]
    if why := missed(fault, on_mutant(fault, own)):
        raise SuiteError(why)
    others = [found[0] for found in items.values() if found and found[0].case.family != family]
    return next((one.name for one in on_mutant(fault, others, enough=1) if one.counts), "")
