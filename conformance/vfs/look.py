"""Looks at one thing from inside and outside. A look holds what was seen; `Share.same` judges whether it agrees."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from conformance.case import KEPT
from conformance.checks import first_difference
from conformance.comparison import Comparison
from conformance.errors import Finding
from conformance.vfs.compare import Comparer
from conformance.vfs.deployment import HostMounts
from conformance.vfs.mount_options import VERSIONS, MountOptions
from conformance.vfs.vantage import CallRecord, Vantage
from conformance.vocabulary import errno_name

T = TypeVar("T")
Tolerated = Mapping[str, str]
"""Plain field names -> why a difference in that field is not a finding this once."""


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """What the two sides showed, one directly after the other.

    With only one side (the control file system, a share that is not visible outside), `outside` is what inside showed.
    """

    inside: T
    outside: T
    compare: Callable[[Tolerated], Comparison[Any]]
    """The comparison of the two, by the rules of the target."""
    missing: Finding | None = None
    """The file is missing on one side or both."""
    again: Callable[[], Look[T]] | None = None
    """Looks once more, where other programs of the host change meanwhile what is looked at."""


Stat = Mapping[str, Any]
"""A stat, statx or statvfs result: st_mode, stx_mode, f_bsize -> value."""

_STALE = "cache={} keeps attributes in the guest until they are asked for again"
_WRITE_BACK = "cache={} may hold dirty pages that the server has not seen yet"

_LOOKED_AT, _DIFFERENT = 4 << 20, 24
"""Bytes of two files in which the first difference is looked for, and how many from there a finding shows."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """The ground of a case's share: where it is mounted and exported, who makes calls there, how it is compared."""

    inside: Vantage
    outside: Vantage
    control: Vantage
    mount: MountOptions
    mount_point: str
    exported: str
    """The exported directory, as outside names it."""
    comparer: Comparer
    traced: bool
    """Whether the trace of the guest's kernel says which messages crossed."""
    features: frozenset[str] = frozenset()
    sides: Literal["both", "inside", "control"] = "both"
    """inside: nothing outside can look at the files. control: this is a native file system of the guest."""
    export: str = ""
    """The path that the hypervisor exports, where it is not `exported`: a symbolic link, an odd name."""
    host_mounts: HostMounts | None = None
    """How cases mount below the export, where the agent outside may not."""
    label: str = ""
    """"" for the case's own share; further ones say which they are."""
    dialects: tuple[str, ...] = VERSIONS
    """Versions of the protocol that the target declares to speak."""
    declares: Callable[[Finding], bool] = lambda _: False
    """Whether the target's profile declares a finding of this case as a known failure."""


class BothSides:
    """Looks at the files of one share: what inside and outside show now, and how the two compare."""

    def __init__(self, mounted: Mounted, calls: list[CallRecord]) -> None:
        self.mounted, self.mount, self.calls = mounted, mounted.mount, calls
        self.inside, self.outside, self.control = mounted.inside, mounted.outside, mounted.control
        self.on_control, self.alone = mounted.sides == "control", mounted.sides == "inside"
        self._one_sided = mounted.sides != "both"
        self._comparer = mounted.comparer
        self._inode_at: dict[str, tuple[int, int]] = {}
        self._last_seen: tuple[int, Mapping[str, Any]] = (0, {})
        """The number of the guest's request after which it showed what the call had changed, and what it showed."""
        self._comparer.forget_inodes()
        if not self._one_sided:
            self.outside.hides = self._comparer.hides

    def stat(self, path: str, kind: str = "lstat") -> Look[Stat]:
        """stat (or kind="statx") of `path`."""
        (inside,), (outside,) = self._seen([path], kind, self._already() if kind == "lstat" else None)
        shown = "statx" if kind == "statx" else "stat"
        missing = None
        if isinstance(inside, int) or isinstance(outside, int):
            ours, theirs = (errno_name(side) if isinstance(side, int) else "exists" for side in (inside, outside))
            text = f"{path!r} is missing: inside {ours}, outside {theirs}"
            missing = Finding(text, "exists", {"path": path, "call": kind, "inside": ours, "outside": theirs})
        return Look(inside, outside, lambda tolerated: self._judge(path, inside, outside, shown, tolerated), missing)

    def content(self, path: str) -> Look[tuple[int, str]]:
        """The file's bytes: (size, sha256)."""
        inside = self.inside.quietly.hash_file(path)
        outside = inside if self._one_sided else self.outside.quietly.hash_file(path)
        return Look(inside, outside, lambda _: self._judge_content(path, inside, outside))

    def directory(self, path: str = ".") -> Look[list[str]]:
        """The names in a directory, sorted; compared with file types and inode identities."""
        inside = self.inside.quietly.entries(path)
        outside = inside if self._one_sided else self.outside.quietly.entries(path)
        ours, theirs = ([name for name, *_ in side] for side in (inside, outside))
        return Look(ours, theirs, lambda _: self._comparer.entries(path, inside, outside))

    def link(self, path: str) -> Look[str]:
        """A symbolic link's text."""
        inside = str(self.inside.quietly.readlink(path))
        outside = inside if self._one_sided else self._link_outside(path)
        both = {"target": inside}, {"target": outside}
        return Look(inside, outside, lambda _: self._comparer.values("link", path, *both, "target"))

    def xattrs(self, path: str, prefix: str = "user.") -> Look[dict[str, bytes]]:
        """The names and values of the extended attributes whose names begin with `prefix`."""
        inside = self._xattrs(self.inside, path, prefix)
        outside = inside if self._one_sided else self._comparer.shown(self._xattrs(self.outside, path, prefix))
        return Look(inside, outside, lambda _: self._comparer.values("xattr", path, inside, outside))

    def statvfs(self, path: str = ".") -> Look[Stat]:
        """statvfs; compared in bytes, with the changes of the host's disk meanwhile as tolerance."""
        host = self.inside if self.alone else self.outside
        before = host.quietly.statvfs(path)
        inside = self.inside.quietly.statvfs(path)
        after = host.quietly.statvfs(path)
        return Look(
            inside,
            before,
            lambda _: self._comparer.statvfs(path, inside, before, after),
            again=partial(self.statvfs, path),
        )

    def _already(self) -> Mapping[str, Any]:
        """What inside showed with its last call of what that changed; nothing if the guest has done more since."""
        number, shown = self._last_seen
        return shown if number and self.inside.agent.at_rest == number else {}

    def _seen(
        self, paths: list[str], kind: str, already: Mapping[str, Any] | None = None
    ) -> tuple[list[Any], list[Any]]:
        """What inside and outside show of `paths`, queried by the main processes: as root, whatever process the case
        uses.

        `already`: what inside has seen of them in the round trip of the call itself.
        """
        if already and all(path in already for path in paths):
            inside = [already[path] for path in paths]
        else:
            inside = self.inside.quietly.look(paths, kind, mark=self.mounted.traced)
        if self._one_sided:
            return inside, inside
        return self._settled(paths, kind, inside, self.outside.quietly.look(paths, kind))

    def _settled(
        self, paths: list[str], kind: str, inside: list[Any], outside: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        """What both sides have shown of `paths`, or show now if something was read between the two looks."""
        if any(_atime(ours) != _atime(theirs) for ours, theirs in zip(inside, outside, strict=True)):
            # By another program of the host, for example.
            inside = self.inside.quietly.look(paths, kind, mark=self.mounted.traced)
            outside = self.outside.quietly.look(paths, kind)
        return inside, outside

    def _link_outside(self, path: str) -> str:
        try:
            return str(self.outside.quietly.readlink(path))
        except OSError as e:
            if self._comparer.judges("target"):
                raise
            return errno_name(e.errno or 0)

    def _xattrs(self, vantage: Vantage, path: str, prefix: str) -> dict[str, bytes]:
        names = [n for n in vantage.quietly.listxattr(path, follow_symlinks=False) if n.startswith(prefix)]
        coming = {name: vantage.quietly_start.getxattr(path, name, follow_symlinks=False) for name in names}
        return {name: value.result() for name, value in coming.items()}

    def _judge(
        self, path: str, inside: Any, outside: Any, kind: str, tolerated: Tolerated, after: int | None = None
    ) -> Comparison[Any]:
        """`after`: the number of the call before; by default that of the last one."""
        if isinstance(inside, int) or isinstance(outside, int):
            seen = [errno_name(v) if isinstance(v, int) else "exists" for v in (inside, outside)]
            # Where links are kept as plain files, the host cannot follow one; "target" then says why.
            rule = "target" if outside in (errno.ENOTDIR, errno.ENAMETOOLONG) else "exists"
            rule = "exists" if self._comparer.judges("target") else rule
            found = self._comparer.values(kind, path, {"exists": seen[0]}, {"exists": seen[1]}, rule)
            if path in self._inode_at:
                self._comparer.forget(self._inode_at.pop(path))  # both numbers may be used again
        else:
            prefix = "stx_" if kind == "statx" else "st_"
            self._inode_at[path] = (outside[prefix + "dev"], outside[prefix + "ino"])
            found = self._comparer.stat(path, inside, outside, kind, {**self._stale_fields(), **tolerated})
        return replace(found, path=self._shown(path), after_call=len(self.calls) if after is None else after)

    def _stale_fields(self) -> dict[str, str]:
        if self.mount.cache in KEPT:
            reason = _STALE.format(self.mount.cache)
            return dict.fromkeys(("size", "blocks", "atime_ns", "mtime_ns", "ctime_ns", "nlink"), reason)
        if self.mount.cache == "mmap":
            reason = _WRITE_BACK.format(self.mount.cache)
            return dict.fromkeys(("size", "blocks", "mtime_ns", "ctime_ns"), reason)
        return {}

    def _judge_content(self, path: str, inside: tuple[int, str], outside: tuple[int, str]) -> Comparison[Any]:
        ours, theirs = ({"size": size, "sha256": digest} for size, digest in (inside, outside))
        if inside != outside:
            at, here, there = self._first_difference(path)
            if here and there:
                name = f"bytes from {at}"
                ours, theirs = {"size": inside[0], name: here}, {"size": outside[0], name: there}
        return self._comparer.values("content", path, ours, theirs)

    def _first_difference(self, path: str) -> tuple[int, bytes, bytes]:
        """The first difference of the two sides, and their bytes there; none if one file is a prefix of the other."""
        ours, theirs = (side.quietly.slurp(path, _LOOKED_AT) for side in (self.inside, self.outside))
        at = first_difference(ours, theirs)
        return at, ours[at : at + _DIFFERENT], theirs[at : at + _DIFFERENT]

    def _shown(self, path: str) -> str:
        return f"{self.mounted.label}: {path}" if self.mounted.label else path


def _atime(seen: Any) -> Any:
    return (seen.get("st_atime_ns"), seen.get("stx_atime_ns")) if isinstance(seen, dict) else None
