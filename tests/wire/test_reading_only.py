"""A further server with a read-only export, for each program that supports one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conformance.sut.servers.front_ends import VHOST_USER, reference_device
from conformance.sut.servers.programs import DiodServer, GaneshaServer, ReferenceServer, Started
from conformance.sut.servers.tables import DiodTable, GaneshaTable, ReferenceTable


def _programs(directory: Path) -> dict[str, Started[Any]]:
    devices = {transport: reference_device(transport, ("--identity", "server"), directory) for transport in VHOST_USER}
    return {
        "reference": ReferenceServer(ReferenceTable(arguments=("--identity", "server")), directory),
        "diod": DiodServer(DiodTable(program="diod"), directory),
        "ganesha": GaneshaServer(GaneshaTable(program="ganesha"), directory),
        **devices,
    }


@pytest.mark.parametrize("name", ["reference", "diod", "ganesha", *VHOST_USER])
def test_it_is_of_the_same_kind_and_read_only(name: str, tmp_path: Path) -> None:
    """Code that composes a further server of a device has to pass on the front end's variant."""
    first = _programs(tmp_path)[name]
    (tmp_path / "other").mkdir()
    other = first.reading_only(tmp_path / "other")
    assert isinstance(other, type(first)) and other.read_only
    assert getattr(other, "variant", None) == getattr(first, "variant", None)
    assert other.exported != first.exported and other.command() != first.command()
