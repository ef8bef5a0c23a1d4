"""A machine under v86, saved when its guest is ready for programs: booting takes a minute of processor time, once.

A state is a directory in the cache: the saved machine, the names of its lines to the host, and its disks. v86 restores
it only with exactly the same files and devices, so its name covers all of them.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from guests.cache.cached import Cached
from guests.host import paths
from guests.host.files import remove_tree, require_space
from guests.host.progress import Progress
from guests.machines.uml.root import control_disk
from guests.machines.v86.launch import COMMAND_LINE, Files, V86Launch
from guests.machines.v86.program import BIOS, find_program
from guests.machines.v86.program import directory as program_directory
from guests.machines.v86.root import GUEST_FILES, V86Root, find_root
from guests.machines.v86.root import directory as root_directory

BOOT_LIMIT = 1200.0
"""Seconds that a booting guest has; it takes a minute of a processor, and the processor may be shared."""
FILES = ("machine", "initramfs", "control")
"""What a machine is restored from."""
MEMORIES = (512,)
"""Sizes of machines, in MiB, whose saved state `assay9 guest clean` keeps."""
SPACE_MB = 800
CONTROL_MB = 512
"""Size of the guest's native file system at /control, in MiB; sparse here."""


def state_directory(program: Path, root: V86Root, memory_mb: int, *, own_server: bool) -> Path:
    """Where the state of such a machine is in the cache."""
    seen = hashlib.sha256(
        repr((str(program), root.manifest["build_id"], memory_mb, own_server, CONTROL_MB, COMMAND_LINE)).encode()
    )
    for path in (*sorted(GUEST_FILES.iterdir()), BIOS):
        seen.update(path.read_bytes())
    return paths.cache_dir() / f"v86-state-{seen.hexdigest()[:12]}"


def current_names(snapshots: bool) -> set[str]:
    """The cache entries that this checkout uses: v86, its guest and, with ``snapshots``, saved machines."""
    names = {program_directory().name, root_directory().name}
    program, root = find_program(), find_root()
    if snapshots and program is not None and root is not None:
        names |= {
            state_directory(program, root, memory, own_server=own).name for own in (True, False) for memory in MEMORIES
        }
    return names


def files_of(directory: Path, program: Path, root: V86Root) -> Files:
    """The files that a machine restored from the state there uses."""
    return Files(program=program, root=root, initramfs=directory / "initramfs", control=directory / "control")


def cached_state(program: Path, root: V86Root, memory_mb: int, *, own_server: bool) -> Cached:
    """Where the cache keeps such a machine."""
    directory = state_directory(program, root, memory_mb, own_server=own_server)
    return Cached("a booted guest of v86", directory, FILES)


def ensure_state(
    program: Path,
    root: V86Root,
    memory_mb: int,
    *,
    own_server: bool,
    progress: Progress,
    log: Path,
    rebuild: bool = False,
) -> Path:
    """The directory of a saved machine, booted and saved if the cache does not have it or it is damaged.

    ``log`` gets that boot's output. Raises InfrastructureError.
    """
    cached = cached_state(program, root, memory_mb, own_server=own_server)

    def make(directory: Path) -> None:
        require_space(directory.parent, SPACE_MB, "saving a booted guest")
        _make(directory, program, root, memory_mb, own_server, progress, log)

    if cached.ensure(make, progress, rebuild=rebuild):
        _forget_outdated(cached.directory)
    return cached.directory


def _make(
    temporary: Path, program: Path, root: V86Root, memory_mb: int, own_server: bool, progress: Progress, log: Path
) -> None:
    progress("v86: booting the guest once, to save it (a minute of a processor)")
    started = time.monotonic()
    (temporary / "initramfs").write_bytes(root.initramfs())
    control_disk(temporary / "control", CONTROL_MB)
    launch = V86Launch(
        files_of(temporary, program, root),
        log,
        memory_mb,
        server=None,
        own_server=own_server,
        save=temporary / "machine",
    )
    try:
        launch.wait_saved(BOOT_LIMIT)
    finally:
        launch.stop()
    progress(f"v86: booted and saved in {time.monotonic() - started:.0f} s")


def _forget_outdated(present: Path) -> None:
    """Keep this state and two older ones: a state is 100 to 200 MB, and each change of our PID 1 makes another."""
    others = [path for path in present.parent.glob("v86-state-*") if path != present]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[2:]:
        remove_tree(path)
