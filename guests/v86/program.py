"""v86 itself: a package of npm, fetched once into the cache, used without network afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from guests import paths
from guests.errors import InfrastructureError
from guests.locks import appearing, exclusive
from guests.processes import dying_with_parent
from guests.progress import Progress, silent

NAME = "v86"
VERSION = "0.5.462"
INTEGRITY = "sha512-aKPX7DdzqAKFRv2omDkqSju0uEzlOxzo+II82J5UT7+tZNsboA6kyaNq9NKAnxvo9hzpJ8dQj7vcvcz0J7I2QA=="
"""npm's own hash of the package: another package under this version is refused."""
BIOS = Path("/usr/share/seabios/bios.bin")
"""v86's npm package has none; Debian's serves."""
PACKAGES = {"node": "nodejs", "npm": "npm"}
"""Programs that v86 needs on the host, and the Debian packages that bring them."""

_LIMIT = 300.0


def missing_packages(fetched: bool) -> list[str]:
    """Debian packages that are wanting on this host; npm is only asked for while v86 is not ``fetched``."""
    wanted = {program: package for program, package in PACKAGES.items() if program == "node" or not fetched}
    missing = [package for program, package in wanted.items() if shutil.which(program) is None]
    return missing + ([] if BIOS.is_file() else ["seabios"])


def require_host() -> None:
    """Raise InfrastructureError, one line, when this host lacks what v86 needs."""
    if missing := missing_packages(find_program() is not None):
        raise InfrastructureError(f"v86 needs {', '.join(missing)}", f"apt-get install {' '.join(missing)}")


def directory() -> Path:
    """Where it is in the cache, once fetched."""
    seen = hashlib.sha256(repr((VERSION, INTEGRITY)).encode()).hexdigest()[:12]
    return paths.cache_dir() / f"{NAME}-program-{seen}"


def find_program() -> Path | None:
    """The folder with libv86.mjs and v86.wasm, where it is fetched."""
    build = directory() / "node_modules" / "v86" / "build"
    return build if (build / "libv86.mjs").is_file() and (build / "v86.wasm").is_file() else None


def ensure_program(progress: Progress = silent, rebuild: bool = False) -> Path:
    """The folder with libv86.mjs, fetched first when the cache lacks it. Raises InfrastructureError."""
    target = directory()
    found = None if rebuild else find_program()
    if found is None:
        with exclusive(target.with_name(f".{target.name}.lock"), f"v86 {VERSION}", progress):
            found = None if rebuild else find_program()
            if found is None:
                require_host()
                with appearing(target) as temporary:
                    _fetch(temporary, progress)
                found = find_program()
    if found is None:
        raise InfrastructureError("the package v86 has no build/libv86.mjs", "another version of it is wanted")
    return found


def _fetch(temporary: Path, progress: Progress) -> None:
    started = time.monotonic()
    progress(f"v86: npm install v86@{VERSION} (seconds with a near registry)")
    argv = ["npm", "install", "--prefix", str(temporary), "--no-audit", "--no-fund", "--ignore-scripts",
            "--no-update-notifier", f"v86@{VERSION}"]  # fmt: skip
    # npm keeps a cache and logs at home, which may be read-only or nobody's
    environment = {**os.environ, "npm_config_cache": str(temporary / ".npm")}
    try:
        done = subprocess.run(dying_with_parent(argv), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              cwd=temporary, env=environment, check=False, timeout=_LIMIT)  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InfrastructureError(f"npm install v86@{VERSION} took longer than {_LIMIT:.0f} s",
                                  "check the network and npm's registry, then retry") from None  # fmt: skip
    if done.returncode != 0:
        told = [line for line in done.stderr.splitlines() if "npm error" in line or "npm ERR!" in line]
        raise InfrastructureError(f"npm install v86@{VERSION} failed: {(told or [done.stderr.strip()])[0][:300]}",
                                  "check the network and npm's registry, then retry")  # fmt: skip
    lock = json.loads((temporary / "package-lock.json").read_text(encoding="utf-8"))
    integrity = lock["packages"]["node_modules/v86"].get("integrity")
    if integrity != INTEGRITY:
        raise InfrastructureError(f"v86 {VERSION} from npm is not the package that this project knows ({integrity})",
                                  "check npm's registry; a new version is pinned in guests/v86/program.py")  # fmt: skip
    shutil.rmtree(temporary / ".npm", ignore_errors=True)
    progress(f"v86: {VERSION} fetched in {time.monotonic() - started:.0f} s")
