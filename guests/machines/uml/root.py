"""The guest's initramfs and its disks: the image's own root, and an empty native file system."""

from __future__ import annotations

import subprocess
from pathlib import Path

from guests.errors import InfrastructureError
from guests.images.initramfs import Entry, cpio
from guests.images.store import Image

GUEST_FILES = Path(__file__).with_name("guest")

_CPIO_HEAD = 110
_BUSYBOX = "bin/busybox"


def initramfs(image: Image) -> bytes:
    """The initramfs that switches to the image's root, with our PID 1 added."""
    busybox = cpio_member(image.initramfs.read_bytes(), _BUSYBOX)
    directories = ("bin", "dev", "lower", "overlay", "root")
    return cpio(
        [
            *(Entry(name, 0o040755) for name in directories),
            Entry("init", 0o100755, (GUEST_FILES / "initramfs-init").read_bytes()),
            Entry("assay9-uml", 0o100755, (GUEST_FILES / "resident").read_bytes()),
            Entry(_BUSYBOX, 0o100755, busybox),
        ]
    )


def cpio_member(archive: bytes, wanted: str) -> bytes:
    """Content of a member of a "newc" cpio archive.

    Raises InfrastructureError if there is none. Source: the kernel's buffer-format.rst.
    """
    at = 0
    while archive[at : at + 6] == b"070701":
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, name_size = fields[6], fields[11]
        name = archive[at + _CPIO_HEAD : at + _CPIO_HEAD + name_size - 1].decode()
        begin = at + _CPIO_HEAD + name_size
        begin += -begin % 4
        if name == wanted:
            return archive[begin : begin + size]
        at = begin + size
        at += -at % 4
    raise InfrastructureError(f"the guest image's initramfs has no {wanted}", "assay9 guest build --again debian12")


def control_disk(path: Path, megabytes: int) -> None:
    """An empty ext4 in a sparse file. Raises InfrastructureError."""
    with path.open("wb") as file:
        file.truncate(megabytes << 20)
    argv = [
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-m",
        "0",
        "-L",
        "control",
        "-E",
        "lazy_itable_init=1,nodiscard",
        "-O",
        "^resize_inode",
        str(path),
    ]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, timeout=60)
    except FileNotFoundError:
        raise InfrastructureError("mke2fs is not installed", "apt-get install e2fsprogs") from None
    if done.returncode != 0:
        raise InfrastructureError(f"mke2fs {path}: {done.stderr.strip()}", "free some space there")
