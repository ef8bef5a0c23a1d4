"""Two machines reached by SSH, "guest" and "host": both are this machine, and both have the same directory.

The fixture declares the directory to be a 9p mount. So the tests need no guest to check how machines are reached, and
what an error is charged to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.sut.attach import deployment as attaching
from conformance.sut.attach.attachment import attachment
from conformance.sut.attach.deployment import AttachDeployment
from conformance.sut.attach.tables import AttachTarget
from conformance.sut.load import load
from tests.ssh_server import SshServer

SHOWN = "rw,sync,dirsync,relatime,access=client,trans=virtio"


class Machines:
    """A guest over SSH and a host over SSH, with one directory that both have."""

    def __init__(self, directory: Path) -> None:
        self.share, self.control = directory / "share", directory / "control"
        for one in (self.share, self.control):
            one.mkdir()
        self.guest, self.host = SshServer(directory, "guest"), SshServer(directory, "host")
        self.config = directory / "config"
        self.reported: list[str] = []

    def attach(self, *, mounted: Path | None = None, outside: str = "") -> AttachDeployment:
        self.config.write_text(self.guest.config() + self.host.config())
        given = attachment(
            guest="guest",
            outside=outside or f"host:{self.share}",
            mounted=str(mounted or self.share),
            control=str(self.control),
            ssh_config=str(self.config),
        )
        target = load("attach")
        assert isinstance(target, AttachTarget)
        return AttachDeployment(target, given, self.share.parent, self.reported.append)

    def left(self) -> list[Path]:
        return [*self.share.iterdir(), *self.control.iterdir()]


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    if os.geteuid() != 0:
        pytest.skip("root, as in a guest")
    made = Machines(tmp_path)
    monkeypatch.setattr(attaching, "mounted", lambda link, where: f"work {where} 9p {SHOWN}")
    monkeypatch.setattr(attaching, "_BACK", 1.0)
    monkeypatch.setattr(attaching, "cost", lambda features, reasons: [])
    with made.guest.running(), made.host.running():
        yield made
