"""The guest under v86: Debian 12 for i386, its stock kernel, our own PID 1, as files that v86 boots from.

It is made like the other images (guests/images): mmdebstrap writes a tar, the rest transforms data. It is separate
because it has another architecture and neither sshd nor a network; it is not an image of QEMU's machines.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import secrets
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guests.build_tools import require_build_tools
from guests.cache.cached import Cached
from guests.cache.contents import read_manifest, write_manifest
from guests.errors import InfrastructureError
from guests.host import paths
from guests.host.files import require_space
from guests.host.progress import Progress, silent
from guests.images.debian import make_root
from guests.images.initramfs import Entry, cpio
from guests.images.kernel import decompress_module, module_closure, module_name, parse_modules_dep
from guests.images.recipe import GUEST_FILES as IMAGE_FILES
from guests.images.recipe import MODULES
from guests.images.rootfs import KERNEL_PREFIX, KernelFiles, Keys, open_tar, read_kernel, read_member, write_root

NAME = "v86"
TITLE = "Debian 12 (bookworm) for i386, stock kernel 6.1, and the emulator v86 from npm"
SUITE = "bookworm"
KERNEL_PACKAGE = "linux-image-686"
"""Without PAE, which 512 MB have no use for."""
PACKAGES = ("python3", "kmod", "busybox-static", "acl", "attr", "iproute2", "e2fsprogs", "login")
BOOT_MODULES = ("virtio_pci", "ata_piix", "sd_mod", "squashfs", "overlay", "ext4", "crc32c_generic", "virtio_console")
"""Loaded by the initramfs: v86's disks are IDE's, its console virtio's."""
SPACE_MB = 2500

GUEST_FILES = Path(__file__).with_name("guest")
_SECURITY = 'sed -i /security/d "$1/etc/apt/sources.list"'
"""The guest talks to the suite only, and the archive's i386 part was broken for days when this was written."""


@dataclass(frozen=True, slots=True)
class V86Root:
    """A guest in the cache."""

    directory: Path

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def modules(self) -> Path:
        """A cpio archive with busybox and the modules to boot with: the first part of an initramfs."""
        return self.directory / "modules.cpio"

    @property
    def root(self) -> Path:
        return self.directory / "root.squashfs"

    @property
    def manifest(self) -> dict[str, Any]:
        """Release of the kernel, time of making, and an id of this build."""
        return read_manifest(self.directory, f"assay9 guest build --again {NAME}")

    def initramfs(self) -> bytes:
        """The initramfs: the cached part, and our own init and PID 1 from this checkout."""
        return self.modules.read_bytes() + cpio(
            [
                Entry("init", 0o100755, (GUEST_FILES / "initramfs-init").read_bytes()),
                Entry("assay9-v86", 0o100755, (GUEST_FILES / "resident").read_bytes()),
            ]
        )


def directory() -> Path:
    """Its place in the cache. The name covers every input in this checkout."""
    inputs = (
        SUITE,
        KERNEL_PACKAGE,
        PACKAGES,
        BOOT_MODULES,
        MODULES,
        _SECURITY,
        (IMAGE_FILES / "fetch-kernel").read_bytes(),
    )
    return paths.cache_dir() / f"{NAME}-root-{hashlib.sha256(repr(inputs).encode()).hexdigest()[:12]}"


def cached() -> Cached:
    """Where the cache keeps the guest."""
    return Cached("the guest of v86", directory(), ("vmlinuz", "modules.cpio", "root.squashfs", "manifest.json"))


def find_root() -> V86Root | None:
    """The guest, or None if it is not made or is damaged."""
    return V86Root(directory()) if cached().usable() else None


def ensure_root(progress: Progress = silent, rebuild: bool = False) -> V86Root:
    """The guest, made if the cache does not have it or it is damaged. Raises InfrastructureError."""

    def make(temporary: Path) -> None:
        require_build_tools()
        require_space(temporary.parent, SPACE_MB, "building the guest of v86")
        _make(temporary, progress)

    cached().ensure(make, progress, rebuild=rebuild)
    return V86Root(directory())


def _make(temporary: Path, progress: Progress) -> None:
    started = time.monotonic()
    archive = temporary / "raw.tar"
    make_root(
        SUITE,
        PACKAGES,
        archive,
        name=NAME,
        progress=progress,
        space_mb=SPACE_MB,
        options=(
            "--architectures=i386",
            # x86-64 runs i386 code itself; without this option mmdebstrap wants a package that only detects that.
            "--skip=check/qemu",
            f"--setup-hook={_SECURITY}",
            f"--customize-hook=sh '{IMAGE_FILES / 'fetch-kernel'}' {KERNEL_PACKAGE} \"$1\"",
        ),
    )
    with open_tar(archive) as tar:
        progress("v86: kernel, modules and squashfs root")
        kernel = _kernel(tar)
        (temporary / "vmlinuz").write_bytes(kernel.vmlinuz)
        (temporary / "modules.cpio").write_bytes(_modules(kernel))
        _squash(tar, kernel, temporary / "root.squashfs")
    archive.unlink()
    write_manifest(temporary, release=kernel.release, build_id=secrets.token_hex(6))
    progress(f"v86: guest made in {time.monotonic() - started:.0f} s, kernel {kernel.release}")


def _kernel(tar: tarfile.TarFile) -> KernelFiles:
    """Kernel, busybox, the modules to boot with and the names of those to keep."""
    kernel = read_kernel(tar)
    members = {member.name.removeprefix("./"): member.name for member in tar.getmembers()}
    base = f"{KERNEL_PREFIX}lib/modules/{kernel.release}/"
    dependencies = parse_modules_dep(read_member(tar, members[f"{base}modules.dep"]).decode())
    boot = [
        (f"{module_name(path)}.ko", decompress_module(path, read_member(tar, members[base + path])))
        for path in module_closure(BOOT_MODULES, dependencies)
    ]
    kept = frozenset(module_closure((*MODULES, *BOOT_MODULES), dependencies))
    return dataclasses.replace(kernel, boot_modules=boot, kept_modules=kept)


def _modules(kernel: KernelFiles) -> bytes:
    directories = ("bin", "dev", "proc", "sys", "modules", "lower", "overlay", "root")
    order = "".join(f"{name}\n" for name, _ in kernel.boot_modules)
    return cpio(
        [
            *(Entry(name, 0o040755) for name in directories),
            Entry("bin/busybox", 0o100755, kernel.busybox),
            *(Entry(f"modules/{name}", 0o100644, data) for name, data in kernel.boot_modules),
            Entry("modules/order", 0o100644, order.encode()),
        ]
    )


def _squash(tar: tarfile.TarFile, kernel: KernelFiles, output: Path) -> None:
    argv = ["mksquashfs", "-", str(output), "-tar", "-comp", "lz4", "-quiet", "-noappend", "-no-progress"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as tool:
        assert tool.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its own output follows
            write_root(tar, kernel, Keys(b"", b"", b"", b""), tool.stdin.write)
        _, said = tool.communicate()
    if tool.returncode != 0:
        raise InfrastructureError(
            f"mksquashfs failed: {said.decode(errors='replace').strip()[-300:]}", "free some space in the cache"
        )
