"""Build a guest image: mmdebstrap makes a tar of the root file system, the rest transforms data.

An image is a directory: ``vmlinux``, ``initramfs``, ``root.squashfs``, the key pair ``id_ed25519``(``.pub``),
``known_host`` (the guest's public host key), ``token`` and ``manifest.json``. It never changes again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import tarfile
import time
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from guests.cache.contents import write_manifest
from guests.errors import InfrastructureError
from guests.host.progress import Progress
from guests.images.debian import make_root
from guests.images.initramfs import initramfs
from guests.images.kernel import extract_vmlinux
from guests.images.recipe import GUEST_FILES, Recipe
from guests.images.rootfs import KernelFiles, Keys, open_tar, package_versions, read_kernel, read_member, write_root

SCRATCH_SPACE_MB = 1200
"""What mmdebstrap unpacks in its working directory (measured 0.9 GB for Debian 13)."""


def build(recipe: Recipe, directory: Path, progress: Progress) -> None:
    """Build ``recipe`` into the empty ``directory``; raises InfrastructureError."""
    started = time.monotonic()
    raw = directory / "raw.tar"
    hook = f'sh {_quoted(GUEST_FILES / "fetch-kernel")} {_quoted(recipe.kernel_package)} "$1"'
    make_root(
        recipe.suite,
        recipe.all_packages,
        raw,
        name=f"image {recipe.name}",
        progress=progress,
        space_mb=SCRATCH_SPACE_MB,
        options=[f"--customize-hook={hook}"],
    )
    keys = _make_keys(directory)
    with open_tar(raw) as tar:
        progress(f"image {recipe.name}: kernel and initramfs")
        kernel = read_kernel(tar)
        (directory / "vmlinux").write_bytes(extract_vmlinux(kernel.vmlinuz))
        init = (GUEST_FILES / "initramfs-init").read_bytes()
        (directory / "initramfs").write_bytes(initramfs(init, kernel.busybox, kernel.boot_modules))
        progress(f"image {recipe.name}: squashfs root")
        packages = package_versions(read_member(tar, "var/lib/dpkg/status").decode())
        _squash(tar, kernel, keys, directory / "root.squashfs")
    raw.unlink()
    write_manifest(
        directory,
        "built_at",
        recipe=recipe.model_dump(mode="json"),
        recipe_digest=recipe.digest,
        build_id=f"{recipe.digest}-{secrets.token_hex(4)}",
        kernel_release=kernel.release,
        packages=packages,
    )
    progress(f"image {recipe.name}: built in {time.monotonic() - started:.0f} s, kernel {kernel.release}")


def _squash(tar: tarfile.TarFile, kernel: KernelFiles, keys: Keys, output: Path) -> None:
    argv = ["mksquashfs", "-", str(output), "-tar", "-comp", "lz4", "-quiet", "-noappend", "-no-progress"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as tool:
        assert tool.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its own output follows
            write_root(tar, kernel, keys, tool.stdin.write)
        _, said = tool.communicate()
    if tool.returncode != 0:
        words = said.decode(errors="replace").strip()[-300:]
        remedy = "free some space in the cache" if "space" in words else ""
        raise InfrastructureError(f"mksquashfs failed: {words}", remedy)


def _make_keys(directory: Path) -> Keys:
    """A key pair for the client and one for the guest's sshd, made for this image alone."""
    pairs = []
    for _ in range(2):
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        pairs.append((private, public + b" assay9\n"))
    (host_private, host_public), (client_private, client_public) = pairs
    (directory / "known_host").write_bytes(host_public)
    (directory / "id_ed25519.pub").write_bytes(client_public)
    token = secrets.token_hex(16).encode()
    for name, secret in (("id_ed25519", client_private), ("token", token)):
        descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(secret)
    return Keys(host_private, host_public, client_public, token)


def _quoted(value: object) -> str:
    return "'" + str(value).replace("'", "'\\''") + "'"
