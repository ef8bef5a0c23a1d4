"""The tables of kind `nested`: as for kind `hypervisor`, on a host that the suite starts."""

from __future__ import annotations

from typing import Literal

from conformance.sut.hypervisor.tables import HypervisorTable


class NestedTarget(HypervisorTable):
    """A virtual machine by its commands, which run in the outer guest."""

    kind: Literal["nested"]
