"""What is measured: the kinds of work, how shares are mounted for them, and the series that show cliffs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from conformance.errors import UsageError
from conformance.vfs.mount_options import DEFAULT, LARGEST_MSIZE, MountOptions
from guests.words import unknown

GROUPS = ("metadata", "data", "scaling")


ABOUT: Mapping[str, str] = {
    "stat": "stat(2) of one file",
    "create": "open(2) of a new file, and close(2)",
    "unlink": "unlink(2) of a file",
    "rename": "rename(2) of a file within a directory",
    "readdir": "names and types of all files of a directory",
    "lookup": "stat(2) of files of a directory in random order",
    "untar": "unpacking files of 4 KiB by tar",
    "find": "find(1) over the same files",
    "git-status": "git status of the same files",
    "read": "reading a file in order, in blocks of 1 MiB if nothing else is said",
    "write": "writing a file in order, in blocks of 1 MiB, and fsync(2) at the end",
    "random-read": "reading blocks of 4 KiB in random order",
    "random-write": "writing blocks of 4 KiB in random order, and fsync(2) at the end",
    "sync-write": "writing blocks of 4 KiB, each with fsync(2)",
    "map-read": "reading a file through mmap(2)",
    "map-write": "writing a file through mmap(2), and msync(2) at the end",
    "find-tree": "names and stat(2) of the files of one directory of a tree after the other",
    "stat-tree": "stat(2) of files of a tree in random order",
    "fio-read": "fio: reading in order, in blocks of 1 MiB",
    "fio-write": "fio: writing in order, in blocks of 1 MiB",
    "fio-random-read": "fio: reading blocks of 4 KiB in random order",
    "fio-random-write": "fio: writing blocks of 4 KiB in random order",
    "fio-sync-write": "fio: writing blocks of 4 KiB, each with fsync(2)",
    "fio-map-read": "fio: reading through mmap(2)",
    "fio-map-write": "fio: writing through mmap(2)",
}
"""What each kind of work is, for a person."""
AXES: Mapping[str, str] = {
    "msize": "msize in bytes",
    "block": "bytes of each read",
    "processes": "processes that share the work",
    "files": "files",
    "open": "other files that are open",
    "shares": "shares of the guest used at once",
}
"""What changes along a curve, for a person."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One kind of work on one mount."""

    work: str
    """As `conformance.performance.payload` names it."""
    group: str
    unit: str
    """What is counted: its time is what is compared."""
    mount: MountOptions = DEFAULT
    parameters: Mapping[str, int] = field(default_factory=dict)
    processes: int = 1
    series: str = ""
    """The name of the curve that the measure is a point of; empty where it stands alone."""
    at: int = 0
    """Where on that curve."""
    axis: str = ""
    """What changes along the curve."""
    needs: str = ""
    """A Debian package without which the guest cannot do it."""
    default: bool = True
    """It is measured where nobody chooses."""
    optional: bool = False
    """Where the guest does not have what it needs, it is left out; an image with it is built only if it is named."""
    limited: bool = False
    """It is left out where preparing it would take too long."""
    shares: int = 0
    """On how many shares of the guest at once; 0: it is not about that."""

    @property
    def name(self) -> str:
        """Its name in records, gates and on the command line."""
        where = f" {self.axis}={self.at}" if self.series else ""
        mount = str(self.mount) if self.mount != DEFAULT and self.axis not in ("msize", "shares") else ""
        return f"{self.work}{where}{f' ({mount})' if mount else ''}"


def _data(work: str, block: int, mount: MountOptions, mib: int = 32, **more: str | int) -> Measure:
    parameters = {"block": block, "mib": mib}
    return Measure(work, "scaling" if "series" in more else "data", "MiB", mount, parameters, **more)  # type: ignore[arg-type]


def _fio(pattern: str, block: int, mount: MountOptions, mib: int = 16) -> Measure:
    return _data(f"fio-{pattern}", block, mount, mib, needs="fio", optional=True)


def _tree(work: str, unit: str, files: int) -> Measure:
    return Measure(
        work,
        "scaling",
        unit,
        parameters={"tree": files},
        series=f"{work} by files",
        at=files,
        axis="files",
        default=files < BY_NAME,
        limited=True,
    )


def _shares(measure: Measure, shares: int) -> Measure:
    series = f"{measure.work} by shares"
    return replace(measure, group="scaling", shares=shares, processes=shares, series=series, at=shares, axis="shares")


def _curve(work: str, unit: str, axis: str, points: Iterable[int], parameter: str = "") -> list[Measure]:
    return [
        Measure(
            work,
            "scaling",
            unit,
            parameters={parameter: point} if parameter else {},
            processes=1 if parameter else point,
            series=f"{work} by {axis}",
            at=point,
            axis=axis,
        )
        for point in points
    ]


BY_NAME = 1_000_000
"""Trees of so many files are measured only where somebody names the kind of work."""
_LARGE = MountOptions(msize=LARGEST_MSIZE)
_MAPPED = MountOptions(cache="mmap", msize=LARGEST_MSIZE)
_TREE = {"files": 200}

MEASURES: tuple[Measure, ...] = (
    Measure("stat", "metadata", "call"),
    Measure("create", "metadata", "file"),
    Measure("unlink", "metadata", "file"),
    Measure("rename", "metadata", "call"),
    Measure("readdir", "metadata", "name", parameters={"files": 1000}),
    Measure("untar", "metadata", "file", _LARGE, _TREE),
    Measure("find", "metadata", "file", _LARGE, _TREE),
    Measure("git-status", "metadata", "file", _LARGE, _TREE, needs="git", default=False),
    Measure("stat", "metadata", "call", MountOptions(cache="loose")),
    _data("read", 1 << 20, _LARGE),
    _data("write", 1 << 20, _LARGE),
    _data("random-read", 4096, _LARGE, 16),
    _data("random-write", 4096, _LARGE, 16),
    _data("sync-write", 4096, _LARGE, 16),
    _data("read", 1 << 20, _MAPPED),
    _data("write", 1 << 20, _MAPPED),
    _data("map-read", 65536, _MAPPED, 16),
    _data("map-write", 65536, _MAPPED, 16),
    _fio("read", 1 << 20, _LARGE, 64),
    _fio("write", 1 << 20, _LARGE, 64),
    _fio("random-read", 4096, _LARGE),
    _fio("random-write", 4096, _LARGE),
    _fio("sync-write", 4096, _LARGE),
    _fio("map-read", 4096, _MAPPED),
    _fio("map-write", 4096, _MAPPED),
    *(
        _data(work, 1 << 20, MountOptions(msize=msize), series=f"{work} by msize", at=msize, axis="msize")
        for work in ("read", "write")
        for msize in (8192, 32768, 131072, LARGEST_MSIZE)
    ),
    *(
        _data("read", block, _LARGE, series="read by block", at=block, axis="block")
        for block in (4096, 16384, 65536, 262144)
    ),
    *_curve("stat", "call", "processes", (1, 2, 4, 8, 16)),
    *_curve("create", "file", "processes", (1, 4, 16)),
    *_curve("readdir", "name", "files", (10, 100, 1000, 10000), "files"),
    *_curve("lookup", "call", "files", (10, 1000, 10000), "files"),
    *_curve("stat", "call", "open", (0, 100, 1000, 4000), "open"),
    *(_shares(Measure("stat", "scaling", "call"), shares) for shares in (1, 2, 3, 4)),
    *(_shares(_data("read", 1 << 20, _LARGE), shares) for shares in (1, 2, 3, 4)),
    # Both kinds of one size follow each other: the tree is made once.
    *(
        _tree(work, unit, files)
        for files in (10, 1000, 100_000, BY_NAME)
        for work, unit in (("find-tree", "file"), ("stat-tree", "call"))
    ),
)


def chosen(names: Iterable[str], groups: Iterable[str]) -> list[Measure]:
    """The measures of these kinds of work and groups; the default ones if neither is named. Raises UsageError."""
    names, groups = list(names), list(groups)
    works = list(dict.fromkeys(measure.work for measure in MEASURES))
    for name in names:
        if name not in works:
            raise UsageError(unknown("kind of work", name, works))
    for group in groups:
        if group not in GROUPS:
            raise UsageError(unknown("group", group, GROUPS))
    found = [
        measure
        for measure in MEASURES
        if (measure.work in names or (not names and measure.default)) and (not groups or measure.group in groups)
    ]
    if not found:
        raise UsageError(f"nothing of {', '.join(names)} is in {', '.join(groups)}: name another --group")
    return [replace(measure, limited=False, optional=False) for measure in found] if names else found


def packages(measures: Iterable[Measure]) -> tuple[str, ...]:
    """The Debian packages that the guest must have for them."""
    return tuple(sorted({measure.needs for measure in measures if measure.needs and not measure.optional}))
