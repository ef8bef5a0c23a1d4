"""The one way in which something is kept in the cache: made once, checked before it is used, made anew when damaged.

Images, kernels, snapshots, emulators and private QEMUs are directories that appear whole (``guests.host.locks``) and
whose contents are written down (``guests.cache.contents``). Each process checks a directory when it first uses it.
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
"""What this process has found sound, or has made."""
_made_anew: set[Path] = set()
"""What this process has made anew because it was damaged: done once."""


@dataclass(frozen=True, slots=True)
class Cached:
    """One directory of the cache."""

    what: str
    """For messages: "image debian12"."""
    directory: Path
    needed: tuple[str, ...]
    """Files without which it is of no use, by their names in the directory."""
    limit: float = 1800.0
    """Seconds to wait for another run that is making it."""

    def state(self, *, whole: bool = False) -> str | None:
        """``"absent"``, what is damaged in a few words, or None for a sound one. ``whole`` looks at every byte."""
        if not self.directory.is_dir():
            return "absent"
        if not self.recorded:
            # made before contents were written down: all that can be asked is whether the files are there
            return next(
                (f"{name} is gone or empty" for name in self.needed if not _has_bytes(self.directory / name)), None
            )
        return contents.damage(self.directory, whole=whole)

    @property
    def recorded(self) -> bool:
        """Its contents were written down. They are not in a directory that an earlier version made."""
        return contents.listed(self.directory)

    def usable(self) -> bool:
        """It is there, and nothing is seen to be wrong with it. For lists and ``doctor``: it changes nothing."""
        return self.state() is None

    def ensure(self, make: Callable[[Path], None], progress: Progress, *, rebuild: bool = False) -> bool:
        """Have it in the cache; ``make`` fills an empty directory when it is absent, damaged or to be rebuilt.

        Returns whether it was made. Raises InfrastructureError when it cannot be made, or is damaged again after it
        was made anew in this process.
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
                if self.directory in _made_anew:
                    raise InfrastructureError(
                        f"{self.what} in the cache is damaged again, soon after it was made anew: {damaged}",
                        f"the disk of {self.directory.parent} is not to be trusted, or something else writes there",
                    )
                progress(f"{self.what} in the cache is damaged ({damaged}): making it anew")
            for left in self.directory.parent.glob(f".{self.directory.name}.tmp-*"):
                remove_tree(left)  # of a run that was killed: whoever makes it has the lock, and that is us
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
                    f"{self.what} in the cache is damaged ({damaged}), and could not be made anew: {error.message}",
                    error.remedy,
                ) from error
            if damaged:
                _made_anew.add(self.directory)
        _trusted.add(self.directory)
        return True

    def doubt(self) -> None:
        """Look at every byte before the next use: something that was read from it was wrong."""
        _trusted.discard(self.directory)
        (self.directory / contents.VERIFIED).unlink(missing_ok=True)

    def _sound(self, progress: Progress) -> bool:
        """Whether it can be used as it is. What was made before contents were written down has them written now."""
        if self.directory in _trusted and self.directory.is_dir():
            return True
        whole = self.recorded and contents.verification_due(self.directory)
        if self.state(whole=whole) is not None:
            return False
        if not self.recorded:
            progress(f"{self.what} is from an earlier version: writing down what it contains")
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
