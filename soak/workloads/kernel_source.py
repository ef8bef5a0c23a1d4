"""Kernel sources for the builds: fetched once, unpacked on the host, packed for the guest (whole, or what it needs)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

from conformance.errors import InfrastructureError, UsageError
from guests.cache.cached import Cached
from guests.host.files import remove_tree, require_space
from guests.host.processes import dying_with_parent
from soak.inside.common import digest

NO_SOURCE = "no kernel source {source}: name a version of Debian's linux-source (6.12), a tree or a tarball"
VERSION = re.compile(r"\d+\.\d+")
FETCH_MB, BUILD_MB = 600, 200
"""Room for a source package with what is in it (6.12: 0.3 GB), and for what a small build adds to a tree."""
UNPACKED = 12
"""A compressed archive becomes at most so many times as large (6.12: 0.15 and 1.6 GB)."""

DESCRIBES = ("Kconfig", "Makefile", "Kbuild")
"""Files of these names, even with a suffix, say how to build. Kconfig files are all read, wherever they are."""


WHOLE = (
    "scripts/",
    "kernel/configs/",
    "kernel/time/",
    "arch/x86/include/",
    "arch/x86/entry/",
    "include/asm-generic/",
    "include/linux/atomic/",
    "include/uapi/asm-generic/",
)
"""Directories that are taken whole: make looks whether headers exist, and scripts call each other."""

NOBODY = ("scripts/coccinelle/", "scripts/gdb/", "tools/testing/")
"""Directories that no build of a few objects reads."""


def run(argv: list[str], cwd: Path | None = None) -> None:
    """Run a tool of the host. Raises InfrastructureError with its output."""
    try:
        done = subprocess.run(dying_with_parent(argv), cwd=cwd, capture_output=True, check=False)
    except OSError as e:
        raise InfrastructureError(f"cannot run {argv[0]}: {e.strerror}") from e
    if done.returncode:
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise InfrastructureError(f"{argv[0]} failed: {words[-1][:300] if words else done.returncode}")


def archive_of(source: str, cache: Path, progress: Callable[[str], None]) -> Path:
    """The archive of the sources: a version names a Debian package, anything else the user's tree or tarball.

    Raises UsageError if it does not exist, InfrastructureError if it cannot be fetched.
    """
    cache.mkdir(parents=True, exist_ok=True)
    if VERSION.fullmatch(source):
        return _debian(source, cache, progress)
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / "Makefile").is_file():
            raise UsageError(f"{source} has no Makefile: name the top of a kernel tree, a tarball, 6.12 or 6.1")
        packed = cache / f"{path.resolve().name}.tar"
        top = path.resolve()
        run(["tar", "-cf", str(packed), "--sort=name", "--exclude-vcs", "-C", str(top.parent), top.name])
        return packed
    if not path.is_file():
        raise UsageError(NO_SOURCE.format(source=repr(source)))
    return path


def _debian(version: str, cache: Path, progress: Callable[[str], None]) -> Path:
    package = f"linux-source-{version}"
    name = f"{package}.tar.xz"
    cached = Cached(f"kernel source {version}", cache / package, (name,))

    def fetch(directory: Path) -> None:
        require_space(cache, FETCH_MB, f"fetching {package}")
        progress(f"fetching Debian's {package} (150 MB)")
        work = directory / "work"
        work.mkdir()
        try:
            options = ["-q", "-o", "Acquire::Retries=3", "-o", "APT::Sandbox::User="]
            run(["apt-get", *options, "download", package], work)
        except InfrastructureError as e:
            raise InfrastructureError(
                f"cannot fetch {package}: {e}",
                "apt-get update, or name a tree or a tarball: --set kernel-build.source=PATH",
            ) from e
        (found,) = work.glob("*.deb")
        run(["dpkg-deb", "-x", str(found), str(work / "unpacked")])
        (tarball,) = (work / "unpacked/usr/src").glob("linux-source-*.tar.xz")
        tarball.rename(directory / name)
        remove_tree(work)

    cached.ensure(fetch, progress)
    (cache / name).unlink(missing_ok=True)  # where an earlier version had it
    return cached.directory / name


def unpack(archive: Path, tree: Path) -> None:
    """Unpack it, without its first directory. Raises InfrastructureError, also if the disk is too small."""
    tree.mkdir(parents=True)
    times = 1.5 if archive.suffix == ".tar" else UNPACKED
    require_space(tree, round(times * archive.stat().st_size / 1_000_000) + BUILD_MB, "unpacking the kernel's sources")
    run(["tar", "-xf", str(archive), "--strip-components=1", "--no-same-owner", "-C", str(tree)])


def sources(tree: Path) -> list[str]:
    """Every file and symbolic link of a tree, sorted."""
    out = []
    for directory, directories, names in os.walk(tree):
        below = Path(directory).relative_to(tree)
        links = [d for d in directories if os.path.islink(os.path.join(directory, d))]
        out += [str(below / name) for name in [*names, *links]]
    return sorted(out)


def read_by_objects(tree: Path, objects: Iterable[str]) -> dict[str, set[str]]:
    """Which files the compiler read for each of these objects, from the .cmd files beside them.

    Objects without one are left out.
    """
    found = {}
    for path in objects:
        where, name = os.path.split(path)
        command = tree / where / f".{name}.cmd"
        if command.is_file():
            found[path] = _words(command)
    return found


def _words(command: Path) -> set[str]:
    return {os.path.normpath(word.rstrip(":")) for word in command.read_text(errors="replace").split() if "/" in word}


def needed(tree: Path, all_sources: Iterable[str], without: Iterable[str] = ()) -> list[str]:
    """The sources that a finished build in the tree can have read, except for the objects `without`.

    Its .cmd files name every file that a compiler read; files that describe the build (Kconfig, the Makefiles on the
    way, scripts, the architecture's tables) are all included, because nothing records who reads them.
    """
    read: set[str] = set()
    skipped = {tree / os.path.dirname(path) / f".{os.path.basename(path)}.cmd" for path in without}
    for command in tree.rglob(".*.cmd"):
        if command not in skipped:
            read |= _words(command)
    chosen = {path for path in all_sources if path in read}
    directories = {str(parent) for path in chosen for parent in Path(path).parents}
    for path in all_sources:
        where, name = os.path.split(path)
        if path.startswith(NOBODY):
            wanted = False
        elif path.startswith(WHOLE) or "/" not in path:
            wanted = True
        elif name.startswith(DESCRIBES):
            wanted = name.startswith("Kconfig") or where in directories
        elif path.startswith("arch/x86/"):
            wanted = where in directories or not name.endswith((".c", ".h", ".S"))
        else:
            wanted = where in directories and not name.endswith((".c", ".h"))
        if wanted or (tree / path).is_symlink():
            chosen.add(path)
    return sorted(chosen)


def pack(tree: Path, paths: list[str], archive: Path, more: Iterable[str] = ()) -> dict[str, str]:
    """Pack these files of a tree; returns path -> hash of each, like the program inside.

    `more` are files that a build may rewrite: packed, but not returned.
    """
    said = {}
    temporary = archive.with_name(f".{archive.name}.{os.getpid()}")
    with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as packed:
        for path in paths:
            full = tree / path
            said[path] = f"symlink {os.readlink(full)}" if full.is_symlink() else digest(str(full))
            packed.add(full, path, recursive=False)
        for path in more:
            packed.add(tree / path, path, recursive=False)
    archive.with_suffix(".json").write_text(json.dumps(said), encoding="utf-8")
    temporary.rename(archive)
    return said
