"""Everything in the cache, as `guests.cache.cached.Cached`."""

from __future__ import annotations

from collections.abc import Iterator

from guests.cache.cached import Cached
from guests.host import paths
from guests.images.store import FILES
from guests.machines.qemu import private as private_qemu
from guests.machines.uml import kernel
from guests.machines.v86 import program, root
from guests.machines.v86.state import FILES as STATE_FILES


def everything() -> Iterator[Cached]:
    """Every entry, of this checkout or an earlier one; does not make or change any."""
    for directory in sorted(paths.images_dir().glob("[!.]*")):
        yield Cached(f"image {directory.name}", directory, FILES)
    for directory in sorted(paths.snapshots_dir().glob("[!.]*")):
        yield Cached(f"snapshot {directory.name}", directory, ("state.qcow2",))
    for one in (kernel.cached(), private_qemu.cached(), program.cached(), root.cached()):
        if one.directory.is_dir():
            yield one
    for directory in sorted(paths.cache_dir().glob("server-*")):
        yield Cached(directory.name, directory, ("manifest.json",))
    for directory in sorted(paths.cache_dir().glob("v86-state-*")):
        yield Cached(f"saved machine {directory.name}", directory, STATE_FILES)
