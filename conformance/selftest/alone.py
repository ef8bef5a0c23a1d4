"""Whether only one family finds a fault, which shows what that family adds."""

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
    """The families of the layers, with the faults of each; those that need another target come last."""
    found: dict[tuple[str, str], list[SourceFault]] = {}
    for fault in faults:
        names = {index()[name.partition("[")[0]].family for name in fault.caught}
        if len(names) == 1:
            found.setdefault((fault.layer, names.pop()), []).append(fault)
    for (layer, name), own in sorted(found.items()):
        yield Family(layer, name, tuple(sorted(own, key=lambda fault: bool(fault.target))))


def elsewhere(fault: SourceFault, family: str, items: Mapping[str, Sequence[Item]]) -> str:
    """The first case of another family of the layer that finds the fault, too; empty if none does.

    Each case is tried on one mount. Raises SuiteError if the fault's own cases do not find it.
    """
    own = [item for name in fault.caught for item in items.get(name, [])]
    if why := missed(fault, on_mutant(fault, own)):
        raise SuiteError(why)
    others = [found[0] for found in items.values() if found and found[0].case.family != family]
    return next((one.name for one in on_mutant(fault, others, enough=1) if one.counts), "")
