"""The outer guest, booted once for all of these tests, and a user's options for QEMU with KVM in it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from guests.access.destination import Destination, parse
from guests.agent.hosts import reach
from guests.errors import InfrastructureError
from guests.host.waiting import wait_until
from guests.machines.qemu.argv import KERNEL_COMMAND_LINE
from guests.machines.qemu.outer import FILES, OuterHost

SHARE = "/control/share"
"""The exported directory, which exists only on the outer guest."""
DISK = "/control/inner.qcow2"
"""The disk for the inner guest's own file system."""
QEMU_WORDS = (
    f"-kernel {FILES}/vmlinux -initrd {FILES}/initramfs -append '{KERNEL_COMMAND_LINE}' -cpu max -accel kvm "
    f"-drive if=virtio,format=qcow2,file={DISK}"
)


@dataclass
class Remote:
    """The outer guest as a user's host, and the suite's commands that reach it by SSH."""

    outer: OuterHost
    results: Path
    words: list[str] = field(default_factory=list)

    def run(self, text: str) -> str:
        """Run a shell command there."""
        done = self.outer.machine.shell().run(["sh", "-c", text], 600.0)
        assert done.ok, done.stderr
        return done.stdout

    def assay9(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the suite's command with the SSH configuration; its results are below `results`."""
        assert not any(os.path.exists(path) for path in (SHARE, FILES, DISK)), "these are paths of the outer guest"
        argv = [sys.executable, "-m", "assay9", *words, f"--ssh-config={self.outer.config}"]
        argv += ["--control-dir=/control", f"--outside={self.outer.host}:{SHARE}", f"--results={self.results}"]
        environment = {**os.environ, "NO_COLOR": "1"}
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)

    @property
    def qemu(self) -> list[str]:
        """The options for `qemu-remote`."""
        values = (f"disk={FILES}/root.squashfs", f"more={QEMU_WORDS}")
        return [f"--guest={self.outer.guest}:{{port}}", *(f"--value={value}" for value in values)]

    @contextmanager
    def by_hand(self) -> Iterator[str]:
        """Start a guest there without the suite; yields its name and port for SSH."""
        port = 2222
        self.run(
            f"echo {shlex.quote(QEMU_WORDS)} | xargs qemu-system-x86_64 -name hand -daemonize -pidfile /control/pid "
            f"-display none -m 1024 -drive if=virtio,snapshot=on,file={FILES}/root.squashfs "
            f"-nic user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:22 "
            f"-fsdev local,id=share,path={SHARE},security_model=passthrough "
            "-device virtio-9p-pci,fsdev=share,mount_tag=share0"
        )
        try:
            guest = Destination(self.outer.guest, port=port)
            wait_until(lambda: self._answers(guest), 1800.0, "the guest does not answer", interval=5.0)
            yield str(guest)
        finally:
            self.run("kill -KILL $(cat /control/pid); while pgrep qemu-system > /dev/null; do sleep 0.2; done")

    def _answers(self, guest: Destination) -> bool:
        with suppress(InfrastructureError):
            reach(guest, self.outer.config).close()
            return True
        return False

    def look(self, guest: str) -> str:
        """That guest's mounts and the files that a run could have left in it."""
        host = reach(parse(guest, "guest"), self.outer.config)
        try:
            return host.run("mount -t 9p; ls -a /mnt /var/tmp /control; cat /proc/sys/vm/nr_hugepages").stdout
        finally:
            host.close()

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
