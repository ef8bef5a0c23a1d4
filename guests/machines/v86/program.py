"""v86 itself: a package of npm, fetched once into the cache, used without network afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from guests.cache.cached import Cached
from guests.errors import InfrastructureError
from guests.host import paths
from guests.host.processes import dying_with_parent
from guests.host.progress import Progress, silent

NAME = "v86"
VERSION = "0.5.462"
INTEGRITY = "sha512-aKPX7DdzqAKFRv2omDkqSju0uEzlOxzo+II82J5UT7+tZNsboA6kyaNq9NKAnxvo9hzpJ8dQj7vcvcz0J7I2QA=="
"""npm's own hash of the package: another package under this version is refused."""
BIOS = Path("/usr/share/seabios/bios.bin")
"""v86's npm package has none; Debian's serves."""
PACKAGES = {"node": "nodejs", "npm": "npm"}
"""Programs that v86 needs on the host, and the Debian packages that bring them."""

_BUILD = "node_modules/v86/build"
_LIMIT = 300.0


def missing_packages(fetched: bool) -> list[str]:
    """Debian packages that are missing on this host; npm is needed only until v86 is ``fetched``."""
    wanted = {program: package for program, package in PACKAGES.items() if program == "node" or not fetched}
    missing = [package for program, package in wanted.items() if shutil.which(program) is None]
    return missing + ([] if BIOS.is_file() else ["seabios"])


def require_host() -> None:
    """Raise InfrastructureError, one line, if this host does not have what v86 needs."""
    if missing := missing_packages(find_program() is not None):
        raise InfrastructureError(f"v86 needs {', '.join(missing)}", f"apt-get install {' '.join(missing)}")


def directory() -> Path:
    """Its place in the cache."""
    seen = hashlib.sha256(repr((VERSION, INTEGRITY)).encode()).hexdigest()[:12]
    return paths.cache_dir() / f"{NAME}-program-{seen}"


def cached() -> Cached:
    """Where the cache keeps it."""
    return Cached(f"v86 {VERSION}", directory(), tuple(f"{_BUILD}/{name}" for name in ("libv86.mjs", "v86.wasm")))


def build() -> Path:
    """The folder with libv86.mjs and v86.wasm, once fetched."""
    return directory() / _BUILD


def find_program() -> Path | None:
    """The folder with libv86.mjs and v86.wasm, or None if it is not fetched or is damaged."""
    return build() if cached().usable() else None


def ensure_program(progress: Progress = silent, rebuild: bool = False) -> Path:
    """The folder with libv86.mjs, fetched if the cache does not have it. Raises InfrastructureError."""

    def make(temporary: Path) -> None:
        require_host()
        _fetch(temporary, progress)
        if not (temporary / _BUILD / "libv86.mjs").is_file():
            raise InfrastructureError("the package v86 has no build/libv86.mjs", "install another version")

    cached().ensure(make, progress, rebuild=rebuild)
    return build()


def _fetch(temporary: Path, progress: Progress) -> None:
    started = time.monotonic()
    progress(f"v86: npm install v86@{VERSION} (seconds with a near registry)")
    argv = [
        "npm",
        "install",
        "--prefix",
        str(temporary),
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--no-update-notifier",
        f"v86@{VERSION}",
    ]
    # npm keeps a cache and logs in the home directory, which may be read-only or missing
    environment = {**os.environ, "npm_config_cache": str(temporary / ".npm")}
    try:
        done = subprocess.run(
            dying_with_parent(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=temporary,
            env=environment,
            check=False,
            timeout=_LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise InfrastructureError(
            f"npm install v86@{VERSION} took longer than {_LIMIT:.0f} s",
            "check the network and npm's registry, then retry",
        ) from None
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "npm error" in line or "npm ERR!" in line]
        raise InfrastructureError(
            f"npm install v86@{VERSION} failed: {(errors or [done.stderr.strip()])[0][:300]}",
            "check the network and npm's registry, then retry",
        )
    lock = json.loads((temporary / "package-lock.json").read_text(encoding="utf-8"))
    integrity = lock["packages"]["node_modules/v86"].get("integrity")
    if integrity != INTEGRITY:
        raise InfrastructureError(
            f"v86 {VERSION} from npm is not the package that this project knows ({integrity})",
            "check npm's registry; a new version is pinned in guests/machines/v86/program.py",
        )
    shutil.rmtree(temporary / ".npm", ignore_errors=True)
    progress(f"v86: {VERSION} fetched in {time.monotonic() - started:.0f} s")
