"""New file systems of a requested kind, for exported directories: in images behind loop devices, in memory, or as
layers.

The kernel manages loop devices: mount(8) sets one up, and it ends with the last mount, also after a kill.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from guests.errors import InfrastructureError, UsageError
from guests.host import paths
from guests.host.processes import claimed

IMAGE_MB = 1024
"""Size of each; an image is sparse."""
_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Kind:
    """How to make and mount a kind of file system."""

    type: str
    """Of mount(8); the kernel has it, or a module."""
    make: tuple[str, ...] = ()
    """The program that makes it in an image, whose path follows; none where there is no image."""
    options: str = ""
    then: Callable[[Path], None] = lambda _: None
    """What is done to its root directory."""


def _casefolded(root: Path) -> None:
    shutil.rmtree(root / "lost+found")
    _run(["chattr", "+F", str(root)], "ext4-casefold")


KINDS: dict[str, Kind] = {
    "ext4": Kind("ext4", ("mkfs.ext4", "-q", "-F")),
    "ext4-small-inodes": Kind("ext4", ("mkfs.ext4", "-q", "-F", "-I", "128")),
    "ext4-casefold": Kind("ext4", ("mkfs.ext4", "-q", "-F", "-O", "casefold"), then=_casefolded),
    "xfs": Kind("xfs", ("mkfs.xfs", "-q", "-f")),
    "btrfs": Kind("btrfs", ("mkfs.btrfs", "-q", "-f")),
    "tmpfs": Kind("tmpfs", options=f"size={IMAGE_MB}m"),
    "overlay": Kind("overlay", options="xino=on,lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work"),
    "fuse2fs": Kind("fuse", ("mkfs.ext4", "-q", "-F")),
}
"""What `--export-fs` may be. overlay lies on a directory of the host's; fuse2fs is ext4 served from user space."""
_PACKAGES = {
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "fuse2fs": "fuse2fs",
}
"""Debian's packages of the programs."""


def check_kind(kind: str) -> None:
    """Refuse a kind that this host cannot make, before anything slow: one is made and unmounted again.

    Raises UsageError, one line.
    """
    if os.geteuid() != 0:
        raise UsageError("--export-fs mounts a file system on this host: run it as root")
    one = KINDS[kind]
    for program in filter(None, (*one.make[:1], "fuse2fs" if kind == "fuse2fs" else "")):
        if shutil.which(program, path=_PATH) is None:
            raise UsageError(f"--export-fs {kind} needs {program}: apt-get install {_PACKAGES[program]}")
    if one.type not in _of_the_kernel():
        subprocess.run(["modprobe", "-q", one.type], capture_output=True, check=False, timeout=_SECONDS)
        if one.type not in _of_the_kernel():
            raise UsageError(f"--export-fs {kind}: the kernel of this host has no {one.type}")
    trial = Path(tempfile.mkdtemp(prefix="assay9-trial-", dir=paths.scratch_dir()))
    with claimed(trial):
        at, backing = trial / "at", trial / "backing"
        at.mkdir()
        backing.mkdir()
        try:
            mount_new(kind, at, backing)
        except InfrastructureError as error:
            raise UsageError(str(error)) from None


def mount_new(kind: str, at: Path, backing: Path) -> None:
    """Mount a new file system of that kind on the directory `at`; its image or layers are in `backing`, which is empty.

    Raises InfrastructureError.
    """
    one = KINDS[kind]
    source, options = "assay9", one.options.format(backing)
    if one.make:
        image = backing / "image"
        with image.open("wb") as file:
            file.truncate(IMAGE_MB << 20)
        _run([*one.make, str(image)], kind)
        source = str(image)
    elif kind == "overlay":
        for name in ("lower", "upper", "work"):
            (backing / name).mkdir()
    if kind == "fuse2fs":
        _run(["fuse2fs", source, str(at), "-o", "rw,allow_other,fakeroot"], kind)
    else:
        words = ["-o", f"loop,{options}".rstrip(",") if one.make else options]
        _run(["mount", "-t", one.type, *words, source, str(at)], kind)
    one.then(at)
    at.chmod(0o755)


def _run(argv: list[str], kind: str) -> None:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=_SECONDS, env={**os.environ, "PATH": _PATH}
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InfrastructureError(f"--export-fs {kind}: {argv[0]}: {error}") from None
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:]
        raise InfrastructureError(f"--export-fs {kind}: this host cannot: {argv[0]}: {said}")


def _of_the_kernel() -> set[str]:
    return {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}


_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
