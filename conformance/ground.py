"""The suite's own environment ("ground"), checked before a failure is charged to the target.

A case that failed on broken ground says nothing about the target: it is an infrastructure error, in one line with the
remedy. The ground of a run is free space and directories on this host (`HostGround`), the processes that only the
target itself may end (`guests.host.endings` distinguishes a crash from a signal that was sent), the agents, and the
guest's own disks (`guests.machines.base`). Rule of this module: it knows nothing of cases and verdicts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from guests.errors import InfrastructureError
from guests.host.endings import OutOfMemory, interference

SCRATCH_MB, RESULTS_MB, CACHE_MB, MEMORY_MB = 64, 8, 16, 16
"""Free space for cases, in millions of bytes: the largest file that a case writes has 34 million."""
_FEWEST_INODES = 200


class GroundLost(InfrastructureError):
    """The suite's own ground is broken; the target did not cause it."""

    def __init__(self, message: str, remedy: str = "", *, restorable: bool = True) -> None:
        super().__init__(message, remedy)
        self.restorable = restorable
        """A new start of the target repairs it; else it is checked again before the next case."""


def lost(error: InfrastructureError | None) -> GroundLost | None:
    """A failure that a lower package found, as a `GroundLost`."""
    return None if error is None else GroundLost(error.message, error.remedy)


@dataclass(frozen=True, slots=True)
class Place:
    """A directory of this host in which the suite, or a program that it starts, must be able to write."""

    what: str
    """For messages: "the exported files"."""
    directory: Path
    megabytes: int
    remedy: str

    def without_room(self) -> GroundLost | None:
        """The error if too little space is free there, or None. A missing directory is not checked here."""
        try:
            seen = os.statvfs(self.directory)
        except OSError:
            return None
        free = seen.f_bavail * seen.f_frsize // 1_000_000
        if free < self.megabytes:
            left = f"{free} MB free, {self.megabytes} are needed"
        elif seen.f_files and seen.f_favail < _FEWEST_INODES:
            left = f"{seen.f_favail} inodes free, {_FEWEST_INODES} are needed"
        else:
            return None
        return GroundLost(f"no space for {self.what} in {self.directory}: {left}", self.remedy, restorable=False)


def scratch_place(directory: Path) -> Place:
    """Where exported directories are."""
    remedy = "free some space there, or set ASSAY9_SCRATCH to a directory of a larger file system"
    return Place("the exported files", directory, SCRATCH_MB, remedy)


def results_place(directory: Path) -> Place:
    """Where the record and the logs of a run go."""
    remedy = "free some space there, or name another directory with --results"
    return Place("the results", directory, RESULTS_MB, remedy)


def served_place(directory: Path) -> Place:
    """Where a server's exported directory and its log are."""
    what = "the exported files and the results"
    return Place(what, directory, SCRATCH_MB, "free some space there, or name another directory with --results")


def cache_place(directory: Path) -> Place:
    """Where the copies of machines' disks are."""
    return Place("the machines' disks", directory, CACHE_MB, "free some space there, or set XDG_CACHE_HOME")


def memory_place(directory: Path) -> Place:
    """Where the memory of User-Mode Linux guests is."""
    return Place("the guest's memory", directory, MEMORY_MB, "free some memory, or set TMPDIR to a larger file system")


class HostGround:
    """Free space, and directories that must stay the same."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = tuple(places)
        self.memory = OutOfMemory()
        self._kept: dict[Path, tuple[int, int]] = {}

    def keep(self, directories: Iterable[Path]) -> None:
        """Remember the identity of these directories; replaces those kept before."""
        self._kept = {
            directory: (seen.st_dev, seen.st_ino) for directory in directories if (seen := _stat(directory)) is not None
        }

    def without_room(self) -> GroundLost | None:
        """The first place with too little free space, or None. Cheap: a system call for each place."""
        return next((found for place in self.places if (found := place.without_room()) is not None), None)

    def lost(self) -> GroundLost | None:
        """What is broken, or None."""
        for directory, identity in self._kept.items():
            seen = _stat(directory)
            if seen is None or (seen.st_dev, seen.st_ino) != identity:
                how = "was removed" if seen is None else "was replaced by another"
                return GroundLost(
                    f"the exported directory {directory} {how} while it was in use",
                    "leave the scratch directory of a run alone; it is made again",
                )
        return self.without_room()


def ended_by_another(what: str, sent: str | None, memory: OutOfMemory) -> GroundLost | None:
    """The error for a process that another process ended; `sent` is from `guests.host.endings.sent_signal`."""
    return None if sent is None else GroundLost(*interference(what, sent, memory))


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
