"""A newer QEMU beside the system's own: from Debian 13's backports, unpacked into the cache and not installed.

Its program runs by a small script that takes QEMU's arguments; see ``guests.images.part``. About a minute, once.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guests.cache.cached import Cached
from guests.errors import InfrastructureError
from guests.host import paths
from guests.host.progress import Progress, silent
from guests.images.part import LIBRARIES, LOADER, Part

NAME = "qemu11"
TITLE = "QEMU 11.1 of Debian 13's backports, in a root of its own"
SUITE = "trixie"
BACKPORTS = "trixie-backports"
PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios")
"""All from backports: with an older seabios they cannot be installed together."""

PROGRAM = "qemu-system-x86_64"
"""The script that runs it, by its name in the directory."""
_KEPT = ("usr/bin/qemu-system-x86_64", "usr/lib/x86_64-linux-gnu/", "usr/share/qemu/", "usr/share/seabios/")
_HOOK = f'sed -n \'s/ {SUITE} main/ {BACKPORTS} main/p\' "$1/etc/apt/sources.list" >> "$1/etc/apt/sources.list"'
"""The mirror is mmdebstrap's own choice; its backports are taken from the same place."""
_SCRIPT = """#!/bin/sh
# QEMU {version}, from the cache: its own loader, libraries, modules and firmware
r='{root}'
export QEMU_MODULE_DIR="$r/usr/lib/x86_64-linux-gnu/qemu"
exec "$r/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" --library-path "$r/usr/lib/x86_64-linux-gnu" \\
    "$r/usr/bin/qemu-system-x86_64" -L "$r/usr/share/qemu" -L "$r/usr/share/seabios" "$@"
"""
SPACE_MB = 1500
"""Peak while mmdebstrap works (it unpacks 0.6 GB and packs a tar); what is kept is 120 MB."""


def directory() -> Path:
    """Its place in the cache. The name covers every input in this checkout."""
    seen = hashlib.sha256(repr((SUITE, BACKPORTS, PACKAGES, _KEPT, _HOOK, _SCRIPT)).encode()).hexdigest()[:12]
    return paths.cache_dir() / f"{NAME}-{seen}"


def cached() -> Cached:
    """Where the cache keeps it."""
    return _part().cached()


def find_private_qemu() -> Path | None:
    """The program, or None if it is not made or is damaged."""
    return directory() / PROGRAM if cached().usable() else None


def manifest() -> dict[str, Any]:
    """Version and time of making."""
    return _part().manifest()


def ensure_private_qemu(progress: Progress = silent, rebuild: bool = False) -> Path:
    """The program, fetched if the cache does not have it or it is damaged. Raises InfrastructureError."""
    target = directory()

    def finish(new: Path, _: Mapping[str, str]) -> str:
        script, version = new / PROGRAM, _version(new / "root")
        script.write_text(_SCRIPT.format(version=version, root=target / "root"), encoding="ascii")
        script.chmod(0o755)
        return version

    _part().ensure(finish, progress, rebuild=rebuild)
    return target / PROGRAM


def _part() -> Part:
    return Part(
        NAME,
        TITLE,
        directory(),
        (PROGRAM, "manifest.json", f"root/{_KEPT[0]}"),
        SUITE,
        tuple(f"{package}/{BACKPORTS}" for package in PACKAGES),
        _KEPT,
        SPACE_MB,
        f"assay9 guest build --again {NAME}",
        (f"--setup-hook={_HOOK}",),
    )


def _version(root: Path) -> str:
    argv = [str(root / LOADER), "--library-path", str(root / LIBRARIES), str(root / _KEPT[0]), "--version"]
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, timeout=60)
    if done.returncode != 0:
        raise InfrastructureError(
            f"the fetched QEMU does not run: {done.stderr.strip()[:300]}", "a host with another C library or processor?"
        )
    return str(done.stdout).split("version", 1)[1].split()[0]
