"""A cpio archive ("newc") written without root: device nodes come from devtmpfs, owners are all root."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One member: a directory (``mode`` 040755), a file (0100644) or a link (0120777, target in ``data``)."""

    path: str
    mode: int
    data: bytes = b""


def cpio(entries: list[Entry]) -> bytes:
    """The archive. Format: Documentation/driver-api/early-userspace/buffer-format.rst in the kernel."""
    out = bytearray()
    for inode, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], start=1):
        name = entry.path.encode() + b"\0"
        fields = (inode, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % 4)
        out += entry.data
        out += bytes(-len(out) % 4)
    return bytes(out)


def initramfs(init: bytes, busybox: bytes, modules: list[tuple[str, bytes]]) -> bytes:
    """The initramfs that loads ``modules`` in the given order and switches to the squashfs root.

    ``modules`` are (file name, uncompressed content). ``init`` reads ``/modules/order``.
    """
    directories = ("bin", "dev", "proc", "sys", "modules", "lower", "overlay", "root")
    entries = [Entry(name, 0o040755) for name in directories]
    entries.append(Entry("init", 0o100755, init))
    entries.append(Entry("bin/busybox", 0o100755, busybox))
    entries += [Entry(f"modules/{name}", 0o100644, data) for name, data in modules]
    order = "".join(f"{name}\n" for name, _ in modules)
    entries.append(Entry("modules/order", 0o100644, order.encode()))
    return cpio(entries)
