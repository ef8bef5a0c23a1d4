"""Back ends of a User-Mode Linux guest that are killed.

The guest's kernel removes a device whose back end is gone, for good (arch/um/drivers/virtio_uml.c vu_conn_broken): only
a fresh guest has it again.
"""

from __future__ import annotations

from conformance.sut.parts.power import ServerOutages


class UmlOutages(ServerOutages):
    """The devices of one start of a guest."""

    def kill(self, number: int) -> None:
        super().kill(number)
        self.lost = True

    def plug(self, number: int) -> bool:
        return not self.lost
