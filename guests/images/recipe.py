"""What an image is made from, and the hash of it.

The hash covers everything that decides what is in the image *and lies in this checkout*: the recipe, the files copied
into the guest, the modules that build it. It does not cover the state of the package archive: a built image stays
usable offline.
"""

from __future__ import annotations

import ast
import hashlib
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guests.errors import InfrastructureError

HERE = Path(__file__).resolve().parent
GUEST_FILES = HERE / "guest"

BASE_PACKAGES = (
    "python3",  # the agent; python3-minimal has no json, ctypes and mmap
    "openssh-server",
    "kmod",
    "busybox-static",  # the initramfs, and small tools
    "acl",
    "attr",
    "iproute2",
    "e2fsprogs",  # the native file system of the control vantage
    "cachefilesd",  # the daemon behind cache=fscache; not started
    "login",  # the console: a separate package in Debian 13
)
"""In every image, for any recipe."""

MODULES = (
    "9p",
    "9pnet",
    "9pnet_virtio",
    "9pnet_fd",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "squashfs",
    "overlay",
    "ext4",
    "loop",
    "fuse",
    "cachefiles",
    "pvpanic-pci",
    "nfsv4",
    "crc32c_generic",
    "crc32c-intel",
    "lz4_decompress",
    "kvm-amd",  # for a guest that is a host itself: see guests.machines.qemu.outer
    "kvm-intel",
)
"""Kernel modules kept, with all they depend on. A name that a kernel does not have, or has built in, is skipped."""

BOOT_MODULES = ("virtio_pci", "virtio_blk", "squashfs", "overlay")
"""Loaded by the initramfs, to reach the root file system."""


_BUILDERS = ("recipe.py", "debian.py", "kernel.py", "initramfs.py", "rootfs.py", "build.py")


class Recipe(BaseModel):
    """One guest image. ``extra_packages`` is for variants (the soak's compiler): it enters the hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    suite: str
    kernel_package: str
    packages: tuple[str, ...] = ()
    extra_packages: tuple[str, ...] = ()

    @property
    def all_packages(self) -> tuple[str, ...]:
        """What is installed besides the essential packages and the kernel."""
        return tuple(dict.fromkeys((*BASE_PACKAGES, *self.packages, *self.extra_packages)))

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits over every input of the build."""
        seen = hashlib.sha256(self.model_dump_json().encode())
        for name in _BUILDERS:
            seen.update(f"\0{name}\0".encode() + _meaning(HERE / name))
        for path in sorted(GUEST_FILES.iterdir()):
            seen.update(f"\0{path.name}\0".encode() + path.read_bytes())
        return seen.hexdigest()[:12]

    @property
    def directory_name(self) -> str:
        """Name of the built image in the cache."""
        return f"{self.name}-{self.digest}"


def _meaning(source: Path) -> bytes:
    """A module's syntax tree without docstrings: a reworded comment must not cause a build."""
    tree = ast.parse(source.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return ast.dump(tree).encode()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def recipe_names() -> list[str]:
    """Names of all recipes, the default first."""
    names = sorted(path.stem for path in HERE.glob("*.toml"))
    return sorted(names, key=lambda name: name != "debian12")


def load_recipe(name: str, extra_packages: tuple[str, ...] = ()) -> Recipe:
    """The recipe called ``name``; raises InfrastructureError naming the known ones when there is none."""
    path = HERE / f"{name}.toml"
    if name not in recipe_names():
        raise InfrastructureError(f"no guest image called {name!r}", f"known: {', '.join(recipe_names())}")
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        return Recipe(name=name, extra_packages=tuple(sorted(extra_packages)), **fields)
    except (tomllib.TOMLDecodeError, ValidationError, TypeError) as error:
        raise InfrastructureError(f"recipe {path.name}: {error}", "correct the file") from error
