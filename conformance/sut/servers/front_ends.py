"""The transports that are vhost-user, and the project's own device behind one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.sut.kind import Transports
from conformance.sut.servers.tables import ReferenceTable

if TYPE_CHECKING:
    from conformance.sut.servers.vhost_user import ReferenceDevice

VHOST_USER: Transports = dict.fromkeys(("vhost-user", "vhost-user-inband", "vhost-user-legacy"), "virtqueues")


def reference_device(transport: str, arguments: Sequence[str], directory: Path) -> ReferenceDevice:
    """The project's own device, reached by one of `VHOST_USER`; not yet started."""
    from conformance.sut.servers.vhost_user import ReferenceDevice, Variant  # noqa: PLC0415 - see conformance.sut.kind

    table = ReferenceTable(transport="vhost-user", arguments=tuple(arguments))
    return ReferenceDevice(table, directory, Variant.of(transport))
