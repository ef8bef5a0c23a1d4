"""A target that first fetches its programs says so meanwhile: a run is never silent for minutes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance.run.start import start
from guests.build_tools import missing_build_packages
from guests.cache import cached as caching
from guests.errors import InfrastructureError
from guests.machines.v86 import program
from tests.targets import asked

pytestmark = [
    pytest.mark.usefixtures("private_runtime", "private_cache"),
    pytest.mark.skipif(os.geteuid() != 0, reason="servers under test are contained, which takes root"),
    pytest.mark.skipif(bool(missing_build_packages()), reason="without the tools to build nothing is fetched"),
]

UNPACKED = "I: installing packages..."
DEBIAN = f"#!/bin/sh\necho '{UNPACKED}'\necho 'E: no mirror here'\nexit 1\n"
NPM = "#!/bin/sh\necho 'npm error no registry here' >&2\nexit 1\n"


@pytest.mark.parametrize(
    ("target", "layer", "said", "failed"),
    [
        ("p9ufs", "wire", "p9ufs: mmdebstrap trixie", "no mirror here"),
        ("crosvm-p9", "wire", "crosvm-p9: mmdebstrap sid", "no mirror here"),
        ("qemu-next", "wire", "qemu11: mmdebstrap trixie", "no mirror here"),
        ("qemu-next", "ring", "qemu11: mmdebstrap trixie", "no mirror here"),
        ("qemu-next", "vfs", "qemu11: mmdebstrap trixie", "no mirror here"),
        ("reference-qemu", "ring", "qemu11: mmdebstrap trixie", "no mirror here"),
        ("qemu", "vfs", "image debian12: mmdebstrap bookworm", "no mirror here"),
        ("v86", "vfs", "v86: npm install v86@", "no registry here"),
        ("reference-v86", "vfs", "v86: npm install v86@", "no registry here"),
    ],
)
def test_the_first_run_says_what_it_fetches_and_why_that_failed(
    target: str, layer: str, said: str, failed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "_trusted", set())
    monkeypatch.setattr(program, "require_host", lambda: None)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, script in (("mmdebstrap", DEBIAN), ("npm", NPM)):
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    lines: list[str] = []
    runner = start(asked(target, (layer,)), tmp_path, lines.append, "main", "always", layer)
    try:
        assert isinstance(runner.broken, InfrastructureError) and failed in runner.broken.message
        assert any(line.startswith(said) for line in lines), lines
        if "mmdebstrap" in said:
            assert any(line.endswith(UNPACKED.removeprefix("I: ")) for line in lines), lines
    finally:
        runner.stop()
