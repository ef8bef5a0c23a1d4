"""The User-Mode Linux kernel: built from Debian's sources with ``kernel.fragment``, kept in the cache.

Debian's own package user-mode-linux has no NET_9P_VIRTIO, so the kernel must be built, once, in some minutes. The
cache's key covers the fragment and the commands here, not the state of the package archive: a built kernel stays usable
without network.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guests.cache.cached import Cached
from guests.cache.contents import read_manifest, write_manifest
from guests.errors import InfrastructureError
from guests.host import paths
from guests.host.files import require_space
from guests.host.processes import claimed, dying_with_parent, each_line
from guests.host.progress import Progress, silent

NAME = "uml"
TITLE = "User-Mode Linux 6.12 on the root file system of debian12"
SOURCE_PACKAGE = "linux-source-6.12"
"""Debian 12 has it in its security archive. 6.12, because newer ones give zero-page buffers that no memory table
covers."""
FRAGMENT = Path(__file__).with_name("kernel.fragment")

BUILD_SPACE_MB = 2600
"""Unpacked sources (1.6 GB), the package twice, objects; below TMPDIR or /var/tmp."""
BUILD_LIMIT = 3600.0
"""Seconds after which a build is ended; it takes 4 to 8 minutes on two idle cores."""
_OBJECTS = 947
"""Files that the compiler makes with this fragment, to show how far a build is."""
_STEPS = 10

_TOOLS = {
    "gcc": "gcc",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "xz": "xz-utils",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
}
"""Program -> the Debian package that brings it."""

_CONFIGURE = (
    ("make", "ARCH=um", "O={objects}", "tinyconfig"),
    ("./scripts/kconfig/merge_config.sh", "-m", "-O", "{objects}", "{objects}/.config", "{fragment}"),
    ("make", "ARCH=um", "O={objects}", "olddefconfig"),
)
_MAKE = ("nice", "make", "ARCH=um", "O={objects}", "-j{jobs}", "linux")
_NOT_NEEDED = (
    "drivers/gpu/drm/amd/include",
    "drivers/gpu/drm/*/*.c",
    "sound/*/*.c",
    "drivers/net/ethernet/*/*.c",
    "drivers/media/*/*.c",
    "drivers/staging/*/*.c",
    "tools/testing/selftests",
    "Documentation/*/*",
)
"""Not unpacked: half of the sources, and nothing that this kernel is compiled from."""

_WANTED = (
    "CONFIG_NET_9P_VIRTIO=y",
    "CONFIG_VIRTIO_UML=y",
    "CONFIG_VIRTIO_CONSOLE=y",
    "CONFIG_9P_FS=y",
    "CONFIG_SQUASHFS=y",
    "CONFIG_EVENT_TRACING=y",
)
"""What the configuration must say when it is made: kconfig drops what it does not know silently."""


@dataclass(frozen=True, slots=True)
class UmlKernel:
    """A built kernel in the cache."""

    directory: Path

    @property
    def program(self) -> Path:
        """The kernel: an ordinary program."""
        return self.directory / "linux"

    @property
    def manifest(self) -> dict[str, Any]:
        """Version of the source package, release of the kernel, when it was built."""
        return read_manifest(self.directory, f"assay9 guest build --again {NAME}")


def digest() -> str:
    """Twelve hexadecimal digits over every input of the build that lies in this checkout."""
    said = [line for line in FRAGMENT.read_text(encoding="ascii").splitlines() if re.match(r"(# )?CONFIG_", line)]
    return hashlib.sha256(repr((SOURCE_PACKAGE, said, _CONFIGURE, _MAKE)).encode()).hexdigest()[:12]


def cached() -> Cached:
    """Where the cache keeps the kernel of this checkout."""
    return Cached("the UML kernel", paths.cache_dir() / f"{NAME}-{digest()}", ("linux", "manifest.json"), BUILD_LIMIT)


def find_kernel() -> UmlKernel | None:
    """The cached kernel of this checkout, or None if it is not built or is damaged."""
    return UmlKernel(cached().directory) if cached().usable() else None


def ensure_kernel(progress: Progress = silent, rebuild: bool = False) -> UmlKernel:
    """The kernel, built if the cache does not have it or it is damaged. Raises InfrastructureError."""

    def make(directory: Path) -> None:
        require_tools()
        _build(directory, progress)

    cached().ensure(make, progress, rebuild=rebuild)
    return UmlKernel(cached().directory)


def missing_tools() -> list[str]:
    """Debian packages that a build needs and that are not installed."""
    missing = {package for program, package in _TOOLS.items() if shutil.which(program) is None}
    if "gcc" not in missing:
        probe = subprocess.run(
            ["gcc", "-E", "-x", "c", "-", "-o", "/dev/null"],
            input=b"#include <stdio.h>\n",
            capture_output=True,
            check=False,
            timeout=60,
        )
        missing |= {"libc6-dev"} if probe.returncode else set()
    return sorted(missing)


def require_tools() -> None:
    """Raise InfrastructureError, one line that names what a build needs and this machine does not have."""
    if missing := missing_tools():
        raise InfrastructureError(
            f"building the UML kernel needs {', '.join(missing)}", f"apt-get install {' '.join(missing)}"
        )


def _build(directory: Path, progress: Progress) -> None:
    started = time.monotonic()
    scratch = Path(os.environ.get("TMPDIR", "/var/tmp")) / f"assay9-uml-{secrets.token_hex(4)}"
    require_space(scratch.parent, BUILD_SPACE_MB, "building the UML kernel")
    log = directory / "build.log"
    with claimed(scratch):
        scratch.mkdir()
        progress(f"kernel {NAME}: {SOURCE_PACKAGE} from the package archive (150 MB)")
        source, version = _sources(scratch, log)
        words = {"objects": str(scratch / "objects"), "fragment": str(FRAGMENT), "jobs": str(os.cpu_count() or 1)}
        (scratch / "objects").mkdir()
        for step in _CONFIGURE:
            _run([word.format(**words) for word in step], source, log)
        config = (scratch / "objects/.config").read_text(encoding="ascii").splitlines()
        if missing := [line for line in _WANTED if line not in config]:
            raise InfrastructureError(
                f"{SOURCE_PACKAGE} {version} cannot be configured: no {', '.join(missing)}", f"correct {FRAGMENT.name}"
            )
        progress(f"kernel {NAME}: compiling {version} (4 to 8 minutes on two idle cores, once)")
        _compile([word.format(**words) for word in _MAKE], source, log, progress)
        shutil.copyfile(scratch / "objects/linux", directory / "linux")
        (directory / "linux").chmod(0o755)
        shutil.copyfile(scratch / "objects/.config", directory / "config")
        release = (scratch / "objects/include/config/kernel.release").read_text(encoding="ascii").strip()
    write_manifest(directory, "built_at", source=f"{SOURCE_PACKAGE} {version}", release=release)
    progress(f"kernel {NAME}: built in {time.monotonic() - started:.0f} s, Linux {release}")


def _sources(scratch: Path, log: Path) -> tuple[Path, str]:
    """Fetch and unpack the sources; their directory, and the package's version. Needs no root."""
    fetch = ["apt-get", "-q", "-o", "Acquire::Retries=3", "download", SOURCE_PACKAGE]
    if os.geteuid() == 0:
        fetch[1:1] = ["-o", "APT::Sandbox::User=root"]
    try:
        _run(fetch, scratch, log)
    except InfrastructureError as error:
        raise InfrastructureError(
            f"the package archive did not give {SOURCE_PACKAGE}: {error.message}",
            "apt-get update; Debian 12 has it in bookworm-security",
        ) from error
    package = next(scratch.glob("*.deb"))
    _run(["dpkg-deb", "-x", str(package), str(scratch / "package")], scratch, log)
    version = package.name.split("_")[1].replace("%3a", ":")
    source = scratch / "source"
    source.mkdir()
    archive = next((scratch / "package/usr/src").glob("linux-source-*.tar.xz"))
    left_out = [f"--exclude=*/{pattern}" for pattern in _NOT_NEEDED]
    _run(["tar", "-xf", str(archive), "-C", str(source), "--strip-components=1", *left_out], scratch, log)
    return source, version


def _run(argv: list[str], where: Path, log: Path) -> None:
    """Run one step. Raises InfrastructureError with its last output if it fails."""
    with log.open("ab") as out:
        begin = out.tell()
        done = subprocess.run(
            dying_with_parent(argv),
            cwd=where,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            check=False,
            timeout=BUILD_LIMIT,
        )
    if done.returncode != 0:
        with log.open("rb") as said:
            said.seek(begin)
            raise _failed(argv, said.read().decode(errors="replace").splitlines())


def _compile(argv: list[str], where: Path, log: Path, progress: Progress) -> None:
    """Run make and report progress with the estimated time left."""
    begun, made, reported = time.monotonic(), 0, 0
    lines: list[str] = []
    with log.open("a", encoding="utf-8") as out:

        def take(line: str) -> None:
            nonlocal lines, made, reported
            out.write(line)
            lines = [*lines[-40:], line.rstrip()]
            made += line.startswith("  CC ")
            if made * _STEPS // _OBJECTS > reported:
                reported = made * _STEPS // _OBJECTS
                left = (time.monotonic() - begun) / made * max(0, _OBJECTS - made)
                progress(f"kernel {NAME}: {min(99, 100 * made // _OBJECTS)}% compiled, about {left:.0f} s to go")

        status = each_line(argv, BUILD_LIMIT, take, cwd=where)
    if status != 0:
        raise _failed(argv, lines)


def _failed(argv: list[str], lines: list[str]) -> InfrastructureError:
    """One line about a failed step, the compiler's own error first."""
    errors = [line for line in lines if re.search(r"error:|\*\*\*|^E: |No space left|not found", line)]
    where = (errors or lines or ["it printed nothing"])[0][:300]
    remedy = "free some space in TMPDIR (default /var/tmp)" if "No space left" in where else "see the words above"
    return InfrastructureError(f"{' '.join(argv[:3])} failed: {where}", remedy)
