"""The reference device against QEMU's own virtio-9p: one guest of QEMU 11.1 has both and uses them alternately.

    python -m benchmarks.device_in_guest [--rounds 3] [--only stat] [--count 300] [--mebibytes 192]

It needs root, because servers under test are contained. The output is the medians of the rounds and the ratio ours /
QEMU's, above 1 where ours is faster. Pairs of rounds alternate in which device comes first. The archive to unpack is
made of a directory of the host (--tree; default: 8 MiB of this Python's standard library).

For stat and create there are two more columns, of our device's process for one call or file: how long it ran (looking
for requests included), and how long it was ready to run while other processes had the processors.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sysconfig
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

from conformance.sut.load import load
from conformance.sut.parts.guest_mount import mount_9p, unmount
from conformance.sut.qemu_vhost_user.deployment import VhostQemuDeployment
from conformance.sut.qemu_vhost_user.tables import VhostUserTarget
from conformance.vfs.deployment import Progress
from conformance.vfs.mount_options import LARGEST_MSIZE, MountOptions
from guests.host.processes import Scheduled, scheduled
from guests.machines.spec import MachineSpec, Share

QEMUS = "qemu"
"""The mount tag of QEMU's own device."""
WHERE = "/mnt/benchmark"
_TAR_BYTES = 8 << 20
_SMALLER = 24
"""Factor by which messages of 8 KiB move less data, so that they take about as long as the largest messages."""

_INSIDE = """
import json, os, subprocess, sys, time
what, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) << 20
os.chdir(sys.argv[4])
def timed(work):
    begun = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - begun)
def stat():
    for _ in range(count): os.stat("file")
    return count
def create():
    for n in range(count):
        os.close(os.open(f"new{n}", os.O_CREAT | os.O_WRONLY)); os.unlink(f"new{n}")
    return count
def write():
    fd = os.open("big", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    block = bytes(1 << 20)
    for _ in range(size >> 20): os.write(fd, block)
    os.fsync(fd); os.close(fd)
    return size >> 20
def read():
    fd = os.open("big", os.O_RDONLY)
    while os.read(fd, 1 << 20): pass
    os.close(fd)
    return size >> 20
def untar():
    os.mkdir("tree")
    subprocess.run(["tar", "-xf", "/control/tree.tar", "-C", "tree"], check=True)
    return 1
open("file", "w").close()
if what == "read":
    write()
    fd = os.open("big", os.O_RDONLY); os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED); os.close(fd)
print(json.dumps(timed({"stat": stat, "create": create, "write": write, "read": read, "untar": untar}[what])))
subprocess.run("rm -rf tree big file", shell=True)
"""

ASKED: tuple[tuple[str, str, MountOptions], ...] = (
    ("stat", "calls/s", MountOptions()),
    ("create", "files/s", MountOptions()),
    *(
        (what, "MiB/s", MountOptions(cache=cache, msize=msize))
        for cache in ("none", "mmap")
        for msize in (8192, LARGEST_MSIZE)
        for what in ("read", "write")
    ),
    ("untar", "trees/s", MountOptions(msize=LARGEST_MSIZE)),
)
"""What is measured (`create` is create, close and unlink), its unit, how the shares are mounted for it."""


class Pair(VhostQemuDeployment):
    """The reference device's shares, and one of QEMU's own beside them."""

    def _machine_spec(self) -> MachineSpec:
        return replace(super()._machine_spec(), shares=(Share(QEMUS, self.exports[3]),))

    def rate(self, tag: str, what: str, options: MountOptions, count: int, mebibytes: int) -> float:
        """Rate per second of the workload on that share. Raises InfrastructureError when it cannot be mounted."""
        mount_9p(self.inside, WHERE, options, tag, "trans=virtio")
        try:
            argv = ["python3", "-c", _INSIDE, what, str(count), str(mebibytes), WHERE]
            done = self.inside.calls_with(timeout=300).run(argv)
            assert done["status"] == 0, done["stderr"].decode(errors="replace")
            return float(json.loads(done["stdout"]))
        finally:
            unmount(self.inside, WHERE)


def pack(tree: Path, to: Path) -> int:
    """Write files of a directory to an archive of limited size. Returns the number of files."""
    files, left = 0, _TAR_BYTES
    with tarfile.open(to, "w") as archive:
        for path in sorted(tree.rglob("*")):
            if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
                left -= path.stat().st_size
                if left < 0:
                    break
                archive.add(path, path.relative_to(tree))
                files += 1
    return files


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=300, help="calls, files")
    parser.add_argument("--mebibytes", type=int, default=192, help="read and written by the largest messages")
    parser.add_argument("--only", action="append", help="stat, create, read, write, untar (repeatable)")
    parser.add_argument("--tree", type=Path, default=Path(sysconfig.get_paths()["stdlib"]))
    options = parser.parse_args()
    silent: Progress = lambda line: None  # noqa: E731
    target = load("reference-qemu")
    assert isinstance(target, VhostUserTarget)
    with tempfile.TemporaryDirectory() as directory:
        machine = Pair(target, Path(directory), silent)
        try:
            machine.start()
            archive = Path(machine.outside_root) / "tree.tar"
            files = pack(options.tree, archive)
            mount_9p(machine.inside, WHERE, MountOptions(), "share0", "trans=virtio")
            machine.inside.calls_with(timeout=60).run(["cp", f"{WHERE}/tree.tar", "/control/tree.tar"])
            unmount(machine.inside, WHERE)
            print(f"{machine.hypervisor}, guest {machine.kernel}, {machine.machine.accelerator}; {files} files")
            print(
                f"{'what':<8}{'mount':<28}{'ours':>10}{'QEMU':>10}  {'unit':<9}{'ours/QEMU':>9}"
                f"{'ran':>13}{'waited':>13}"
            )
            for what, unit, mount in ASKED:
                if options.only and what not in options.only:
                    continue
                seen: dict[str, list[float]] = {"share0": [], QEMUS: []}
                size = options.mebibytes if mount.msize == LARGEST_MSIZE else options.mebibytes // _SMALLER
                spent: list[Scheduled] = []
                for turn in range(options.rounds):
                    for tag in sorted(seen, reverse=bool(turn % 2)):
                        before = scheduled(machine.processes()["device"])
                        seen[tag].append(machine.rate(tag, what, mount, options.count, size))
                        after = scheduled(machine.processes()["device"])
                        if tag != QEMUS:
                            spent.append(Scheduled(after.ran - before.ran, after.waited - before.waited))
                ours, theirs = (statistics.median(rates) for rates in seen.values())
                line = f"{what:<8}{mount!s:<28}{ours:>10.1f}{theirs:>10.1f}  {unit:<9}{ours / theirs:>9.2f}"
                if what in ("stat", "create"):
                    ran, waited = (
                        1e6 * statistics.median(column) / options.count for column in zip(*spent, strict=True)
                    )
                    line += f"{ran:>10.0f} us{waited:>10.0f} us"
                print(line, flush=True)
        finally:
            machine.stop()


if __name__ == "__main__":
    main()
