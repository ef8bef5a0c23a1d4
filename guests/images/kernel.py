"""Kernel files: the ELF ``vmlinux`` inside a ``vmlinuz``, and which modules need which.

An uncompressed ELF kernel is booted directly by QEMU (PVH, through the note XEN_ELFNOTE_PHYS32_ENTRY); under
TCG that saves the four seconds that a bzImage spends decompressing itself.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath

from guests.errors import InfrastructureError

ELF_MAGIC = b"\x7fELF"


def _xz(data: bytes) -> bytes:
    return lzma.LZMADecompressor(format=lzma.FORMAT_AUTO).decompress(data)


def _gzip(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(data)


def _by_program(*argv: str) -> Callable[[bytes], bytes]:
    def decompress(data: bytes) -> bytes:
        if shutil.which(argv[0]) is None:
            raise InfrastructureError(
                f"this kernel is compressed with {argv[0]}, which is not installed", f"install {argv[0]}"
            )
        # The trailing bytes after the stream make the program fail after it has written all; only the
        # output counts, and the caller checks that it is ELF.
        return subprocess.run(argv, input=data, capture_output=True, check=False).stdout

    return decompress


_COMPRESSIONS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\xfd7zXZ\x00", _xz),
    (b"\x1f\x8b\x08", _gzip),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data)),
    (b"\x5d\x00\x00\x00", _xz),
    (b"\x28\xb5\x2f\xfd", _by_program("zstd", "-dcq")),
    (b"\x02\x21\x4c\x18", _by_program("lz4", "-dcq")),
)
"""The magics of the kernel's own scripts/extract-vmlinux, in its order of likelihood for Debian."""


def extract_vmlinux(vmlinuz: bytes) -> bytes:
    """The ELF kernel inside a bzImage; raises InfrastructureError when none is found."""
    if vmlinuz.startswith(ELF_MAGIC):
        return vmlinuz
    for magic, decompress in _COMPRESSIONS:
        position = vmlinuz.find(magic)
        while position != -1:
            try:
                kernel = decompress(vmlinuz[position:])
            except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError):
                kernel = b""
            if kernel.startswith(ELF_MAGIC):
                return kernel
            position = vmlinuz.find(magic, position + 1)
    raise InfrastructureError(
        "no ELF kernel found inside the guest's vmlinuz", "the kernel package uses an unknown compression"
    )


def decompress_module(name: str, data: bytes) -> bytes:
    """A ``.ko`` from ``.ko``, ``.ko.xz`` (Debian 13), ``.ko.gz`` or ``.ko.zst``."""
    if name.endswith(".xz"):
        return lzma.decompress(data)
    if name.endswith(".gz"):
        return gzip.decompress(data)
    if name.endswith(".zst"):
        return _by_program("zstd", "-dcq")(data)
    return data


def module_name(path: str) -> str:
    """``kernel/fs/9p/9p.ko.xz`` -> ``9p``, with ``-`` folded to ``_`` as the kernel does."""
    return PurePosixPath(path).name.split(".ko")[0].replace("-", "_")


def parse_modules_dep(text: str) -> dict[str, tuple[str, ...]]:
    """``modules.dep``: path of a module -> paths of all it needs, nearest first."""
    found = {}
    for line in text.splitlines():
        path, _, needs = line.partition(":")
        if path:
            found[path.strip()] = tuple(needs.split())
    return found


def module_closure(wanted: Iterable[str], dependencies: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Paths of the wanted modules and all they need, each after what it needs (an order to load them in).

    Names that no module has are skipped: built in, or not in this kernel.
    """
    paths = {module_name(path): path for path in dependencies}
    order: list[str] = []
    for name in wanted:
        path = paths.get(name.replace("-", "_"))
        if path is None:
            continue
        for needed in (*reversed(dependencies[path]), path):
            if needed not in order:
                order.append(needed)
    return order
