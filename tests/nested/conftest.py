"""The outer guest, booted once for all of these tests, and what a user says of QEMU with KVM in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from guests.machines.qemu.argv import KERNEL_COMMAND_LINE
from guests.machines.qemu.outer import FILES, OuterHost

SHARE = "/control/share"
"""The exported directory: of the outer guest alone."""
DISK = "/control/inner.qcow2"
"""The disk for the inner guest's own file system."""
QEMU_WORDS = (
    f"-kernel {FILES}/vmlinux -initrd {FILES}/initramfs -append '{KERNEL_COMMAND_LINE}' -cpu max -accel kvm "
    f"-drive if=virtio,format=qcow2,file={DISK}"
)


@dataclass
class Remote:
    """The outer guest as a user's host, and commands of the suite that reach it by SSH."""

    outer: OuterHost
    results: Path
    words: list[str] = field(default_factory=list)

    def run(self, text: str) -> str:
        """A command of the shell there."""
        done = self.outer.machine.shell().run(["sh", "-c", text], 600.0)
        assert done.ok, done.stderr
        return done.stdout

    def assay9(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The suite's command with the SSH configuration; its results are below `results`."""
        assert not any(os.path.exists(path) for path in (SHARE, FILES, DISK)), "these are paths of the outer guest"
        argv = [sys.executable, "-m", "assay9", *words, f"--ssh-config={self.outer.config}"]
        argv += ["--control-dir=/control", f"--outside={self.outer.host}:{SHARE}", f"--results={self.results}"]
        environment = {**os.environ, "NO_COLOR": "1"}
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)

    @property
    def qemu(self) -> list[str]:
        """What `qemu-remote` is given."""
        values = (f"disk={FILES}/root.squashfs", f"more={QEMU_WORDS}")
        return [f"--guest={self.outer.guest}:{{port}}", *(f"--value={value}" for value in values)]

    def newest(self) -> Path:
        """The results of the newest run."""
        return max(path for path in self.results.iterdir() if path.is_dir() and not path.is_symlink())


@pytest.fixture(scope="session")
def outer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OuterHost]:
    made = OuterHost(tmp_path_factory.mktemp("outer"), progress=print)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def remote(outer: OuterHost, tmp_path: Path) -> Iterator[Remote]:
    made = Remote(outer, tmp_path / "results")
    made.run(f"rm -rf {SHARE} && mkdir {SHARE} && echo kept > {SHARE}/theirs")
    made.run(f"qemu-img create -q -f qcow2 {DISK} 2G")
    yield made
    assert made.run(f"ls -A {SHARE}") == "theirs\n" and made.run(f"cat {SHARE}/theirs") == "kept\n"
    assert made.run("pgrep -c qemu-system || true").strip() == "0", "no machine is left"
    assert made.run("ls -d /tmp/assay9-* /control/assay9-* 2>/dev/null || true") == ""
