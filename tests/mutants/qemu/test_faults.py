"""The cases for a fault find it in the source of a real QEMU.

`ASSAY9_QEMU_BUILD` names a build directory of QEMU 7.2, beside or below its sources, used for nothing else. Each fault
is put into the sources, built, tried and removed again. docs/selftest.md says how to make the directory.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.selftest.bench import Item, collected, missed, on_target, put_in
from conformance.selftest.declared import SourceFault, declared

_BUILD = os.environ.get("ASSAY9_QEMU_BUILD", "")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not _BUILD, reason="ASSAY9_QEMU_BUILD names no build directory of QEMU"),
    pytest.mark.skipif(os.geteuid() != 0, reason="servers under test are contained, which takes root"),
]
FAULTS = declared([Path(__file__).with_name("faults.toml")])[0]
BUILD = Path(_BUILD)
PROGRAM = "qemu-system-x86_64"
FIRMWARE = ("-L", "/usr/share/qemu", "-L", "/usr/share/seabios")
"""The distribution's file: a build from Debian's sources has none."""


def _sources() -> Path:
    """The directory that the build was configured from."""
    return (BUILD / "Makefile").resolve().parent


def _build() -> None:
    subprocess.run(["ninja", "-C", str(BUILD), PROGRAM], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def _with(fault: SourceFault) -> Iterator[None]:
    sources = _sources()
    text = put_in(fault, sources)
    try:
        _build()
        yield
    finally:
        (sources / fault.file).write_text(text)


@pytest.fixture(scope="module")
def items() -> Iterator[dict[str, list[Item]]]:
    yield {name: found for layer in ("wire", "ring") for name, found in collected(layer, "qemu").items()}
    _build()  # the remaining build has no fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_found(fault: SourceFault, items: dict[str, list[Item]], tmp_path: Path) -> None:
    wanted = [item for name in fault.caught for item in items[name]]
    given = {"qemu": str(BUILD / PROGRAM), "qemu_args": FIRMWARE}
    with _with(fault):
        found = on_target("qemu", given, fault.layer, tmp_path, wanted)
    assert missed(fault, found) == ""
