"""The cache of built guest images: find one, or have it built.

It is separate from ``build``, whose source is part of an image's hash: changes here do not change images.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from guests.build_tools import require_build_tools
from guests.cache.cached import Cached
from guests.cache.contents import read_manifest
from guests.host import paths
from guests.host.files import remove_tree, require_space
from guests.host.progress import Progress, silent
from guests.images.build import build
from guests.images.further import given
from guests.images.recipe import Recipe, load_recipe

BUILD_SPACE_MB = 2500
"""Peak use of a build: unpacked tree, its tar, the result (measured 1.4 GB for Debian 12), with some air."""

FILES = ("vmlinux", "initramfs", "root.squashfs", "id_ed25519", "known_host", "token", "manifest.json")
"""What a machine is started from."""

KEPT_DAYS = 14
"""An image whose recipe has changed since is removed when a build finds it unused for so many days."""


@dataclass(frozen=True, slots=True)
class Image:
    """A built image in the cache."""

    name: str
    directory: Path

    @property
    def vmlinux(self) -> Path:
        return self.directory / "vmlinux"

    @property
    def initramfs(self) -> Path:
        return self.directory / "initramfs"

    @property
    def root(self) -> Path:
        return self.directory / "root.squashfs"

    @property
    def key(self) -> Path:
        return self.directory / "id_ed25519"

    @property
    def known_host(self) -> Path:
        return self.directory / "known_host"

    @property
    def token(self) -> Path:
        """What the launcher in the guest expects; see ``guests.access.launcher``."""
        return self.directory / "token"

    @property
    def manifest(self) -> dict[str, object]:
        """What was built: recipe, kernel release, packages with versions, when."""
        return read_manifest(self.directory, f"assay9 guest build --again {self.name}")

    @property
    def digest(self) -> str:
        """Identifies this very build: two builds of one recipe differ in keys and perhaps packages."""
        return str(self.manifest["build_id"])


def cached_image(recipe: Recipe) -> Cached:
    """Where the cache keeps the image of ``recipe`` for this checkout."""
    return Cached(f"image {recipe.name}", paths.images_dir() / recipe.directory_name, FILES)


def find_image(recipe: Recipe) -> Image | None:
    """The cached image of ``recipe``, or None if it is not built or is damaged."""
    cached = cached_image(recipe)
    return Image(recipe.name, cached.directory) if cached.usable() else None


def ensure_image(
    name: str, extra_packages: Iterable[str] = (), progress: Progress = silent, rebuild: bool = False
) -> Image:
    """The image called ``name``; built if it is absent or damaged, or if ``rebuild`` is set."""
    recipe = load_recipe(name, tuple(extra_packages))
    cached = cached_image(recipe)

    def make(directory: Path) -> None:
        require_build_tools()
        require_space(directory.parent, BUILD_SPACE_MB, f"building image {name}")
        with given(recipe.name):
            build(recipe, directory, progress)

    found = Image(name, cached.directory)
    if cached.ensure(make, progress, rebuild=rebuild):
        _forget_outdated(found, progress)
    with contextlib.suppress(OSError):
        (found.directory / "used").touch()
    return found


def _forget_outdated(present: Image, progress: Progress) -> None:
    """Remove images of the same name that have not been used for a while."""
    for directory in paths.images_dir().glob(f"{present.name}-*"):
        used = directory / "used"
        if directory == present.directory or not used.exists():
            continue
        if time.time() - used.stat().st_mtime > KEPT_DAYS * 86400:
            remove_tree(directory)
            progress(f"removed {directory.name}, unused for {KEPT_DAYS} days")
