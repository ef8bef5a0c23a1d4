"""Programs of another Debian release: a part of a root, unpacked into the cache, without installing anything.

A program runs with its own C library and loader. Making it needs the tools for guest images.
"""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guests.cache.cached import Cached
from guests.cache.contents import read_manifest, write_manifest
from guests.errors import InfrastructureError
from guests.host.progress import Progress
from guests.images.debian import make_root, require_tools
from guests.images.rootfs import open_tar, package_versions, read_member

LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = f"{LIBRARIES}/ld-linux-x86-64.so.2"

Finish = Callable[[Path, Mapping[str, str]], str]
"""Completes the new directory, given the version of each package of the root; returns the version to record."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a Debian root in the cache: ``root/`` and ``manifest.json`` in its directory."""

    name: str
    title: str
    directory: Path
    needed: tuple[str, ...]
    """Files of the directory without which it is damaged."""
    suite: str
    packages: tuple[str, ...]
    kept: tuple[str, ...]
    """Files of the root that are kept, by path; one that ends in ``/`` is a directory."""
    space_mb: int
    """The most that mmdebstrap unpacks."""
    remedy: str
    """The command that makes it again."""
    options: tuple[str, ...] = ()
    """Further options of mmdebstrap."""

    def cached(self) -> Cached:
        """The part as a cache entry."""
        return Cached(self.title, self.directory, self.needed)

    def manifest(self) -> dict[str, Any]:
        """Version and time of making. Raises InfrastructureError if it is missing."""
        return read_manifest(self.directory, self.remedy)

    def ensure(self, finish: Finish, progress: Progress, *, rebuild: bool = False) -> None:
        """Make sure that the cache has it. Raises InfrastructureError if it cannot be made."""
        self.cached().ensure(lambda new: _make(self, new, finish, progress), progress, rebuild=rebuild)


def _make(part: Part, new: Path, finish: Finish, progress: Progress) -> None:
    require_tools(f"fetching {part.title}")
    begun, archive = time.monotonic(), new / "root.tar"
    make_root(
        part.suite,
        part.packages,
        archive,
        name=part.name,
        progress=progress,
        space_mb=part.space_mb,
        variant="apt",
        options=part.options,
    )
    with open_tar(archive) as tar:
        versions = package_versions(read_member(tar, "var/lib/dpkg/status").decode())
        # Neither devices nor fifos: they are useless here, and without root they cannot be made.
        members = [m for m in tar.getmembers() if not (m.isdev() or m.isfifo()) and _keeps(part, m)]
        tar.extractall(new / "root", members, filter="tar")
    if missing := [name for name in part.kept if not (new / "root" / name).exists()]:
        raise InfrastructureError(
            f"{part.title}: {', '.join(missing)} is not in Debian's {part.suite}", "its packages have changed"
        )
    archive.unlink()
    version = finish(new, versions)
    write_manifest(new, version=version)
    progress(f"{part.name}: {version} made in {time.monotonic() - begun:.0f} s")


def _keeps(part: Part, member: tarfile.TarInfo) -> bool:
    path = member.name.removeprefix("./")
    return any(path.startswith(one) if one.endswith("/") else path == one for one in part.kept)
