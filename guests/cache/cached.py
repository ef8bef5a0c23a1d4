"""Entries of the cache: each is made once, checked before use, and made again if damaged.

Images, kernels, snapshots, emulators and private QEMUs are directories that appear whole (``guests.host.locks``) and
whose contents are recorded (``guests.cache.contents``). Each process checks a directory when it first uses it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from guests.cache import contents
from guests.errors import InfrastructureError
from guests.host.files import remove_tree
from guests.host.locks import appearing, exclusive
from guests.host.progress import Progress

_trusted: set[Path] = set()
"""Directories that this process has checked or made."""
_repaired: set[Path] = set()
"""Directories that this process has repaired: each is repaired once."""


@dataclass(frozen=True, slots=True)
class Cached:
    """One directory of the cache."""

    what: str
    """For messages: "image debian12"."""
    directory: Path
    needed: tuple[str, ...]
    """Files that must be there, by their names in the directory."""
    limit: float = 1800.0
    """Seconds to wait for another run that is making it."""

    def state(self, *, whole: bool = False) -> str | None:
        """``"absent"``, the damage in a few words, or None if it is intact. ``whole`` checks every byte."""
        if not self.directory.is_dir():
            return "absent"
        if not self.recorded:
            # made by a version that recorded no contents: only the presence of the files can be checked
            return next(
                (f"{name} is gone or empty" for name in self.needed if not _has_bytes(self.directory / name)), None
            )
        return contents.damage(self.directory, whole=whole)

    @property
    def recorded(self) -> bool:
        """Its contents are recorded; not so in a directory from an earlier version."""
        return contents.listed(self.directory)

    def usable(self) -> bool:
        """It exists without visible damage. For lists and ``doctor``: it changes nothing."""
        return self.state() is None

    def ensure(self, make: Callable[[Path], None], progress: Progress, *, rebuild: bool = False) -> bool:
        """Make sure that the cache has it; ``make`` fills an empty directory when it is absent, damaged or to be
        rebuilt.

        Returns whether it was made. Raises InfrastructureError if it cannot be made, or is damaged again after a repair
        in this process.
        """
        if not rebuild and self._sound(progress):
            return False
        lock = self.directory.with_name(f".{self.directory.name}.lock")
        with exclusive(lock, self.what, progress, self.limit):
            if not rebuild and self._sound(progress):
                return False
            state = None if rebuild else self.state(whole=True)
            damaged = state if state != "absent" else None
            if damaged:
                if self.directory in _repaired:
                    raise InfrastructureError(
                        f"{self.what} in the cache is damaged again, soon after it was repaired: {damaged}",
                        f"the disk of {self.directory.parent} may be failing, or another program writes there",
                    )
                progress(f"{self.what} in the cache is damaged ({damaged}): making it again")
            for left in self.directory.parent.glob(f".{self.directory.name}.tmp-*"):
                remove_tree(left)  # left by a killed run: we hold the lock, so no other process is making it
            try:
                with appearing(self.directory) as temporary:
                    make(temporary)
                    contents.write_contents(temporary)
            except OSError as error:
                where = error.filename or self.directory.parent
                raise InfrastructureError(f"making {self.what}: {where}: {error.strerror}", _remedy(error)) from error
            except InfrastructureError as error:
                if not damaged:
                    raise
                raise InfrastructureError(
                    f"{self.what} in the cache is damaged ({damaged}), and making it again failed: {error.message}",
                    error.remedy,
                ) from error
            if damaged:
                _repaired.add(self.directory)
        _trusted.add(self.directory)
        return True

    def doubt(self) -> None:
        """Check every byte before the next use: data read from it was wrong."""
        _trusted.discard(self.directory)
        (self.directory / contents.VERIFIED).unlink(missing_ok=True)

    def _sound(self, progress: Progress) -> bool:
        """Whether it can be used. Contents that an earlier version did not record are recorded now."""
        if self.directory in _trusted and self.directory.is_dir():
            return True
        whole = self.recorded and contents.verification_due(self.directory)
        if self.state(whole=whole) is not None:
            return False
        if not self.recorded:
            progress(f"{self.what} is from an earlier version: recording its contents")
            contents.write_contents(self.directory)
        elif whole:
            contents.mark_verified(self.directory)
        _trusted.add(self.directory)
        return True


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space there, or set XDG_CACHE_HOME to a larger file system"
    return "set XDG_CACHE_HOME to a directory that you can write, then run again"


def _has_bytes(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
