"""Compares what a share shows inside and outside, field by field.

Rule of this module: every tolerated difference is in `RULES` with its reason, and reports show the
tolerated values. A target may override a rule in its TOML, with a reason of its own. Pure functions: no calls
are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conformance.comparison import Comparison, FieldComparison, compared
from conformance.errors import SuiteError
from conformance.vocabulary import RuleKind

Entry = tuple[str, int, int, int]
"""Name, inode, type and device of an entry of a directory."""
Inode = tuple[int, int]
"""st_dev and st_ino: they identify a file."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one field is compared, and why."""

    kind: RuleKind
    reason: str


RULES: dict[str, Rule] = {
    "mode": Rule("exact", "type and permission bits travel in Rgetattr.mode"),
    "nlink": Rule("exact", "travels in Rgetattr.nlink"),
    "uid": Rule("exact", "travels in Rgetattr.uid; passthrough models keep it"),
    "gid": Rule("exact", "travels in Rgetattr.gid; passthrough models keep it"),
    "size": Rule("exact", "travels in Rgetattr.size"),
    "blocks": Rule("exact", "travels in Rgetattr.blocks, 512-byte units on both sides"),
    "rdev": Rule("exact", "travels in Rgetattr.rdev"),
    "atime_ns": Rule("exact", "travels as seconds and nanoseconds"),
    "mtime_ns": Rule("exact", "travels as seconds and nanoseconds"),
    "ctime_ns": Rule("exact", "travels as seconds and nanoseconds"),
    "ino": Rule("identity", "the guest derives it from qid.path, which a server may remap (QEMU multidevs)"),
    "dev": Rule("informational", "the guest gives every mount an anonymous device number of its own"),
    "blksize": Rule("informational", "v9fs reports a transfer size made from msize or iounit, not the host's"),
    "btime_ns": Rule("informational", "v9fs asks for P9_STATS_BASIC only: birth time never crosses"),
    "mask": Rule("informational", "the statx fields each side's kernel fills in"),
    "attributes": Rule("informational", "9P2000.L has no field for inode attributes"),
    "attributes_mask": Rule("informational", "9P2000.L has no field for inode attributes"),
    "mnt_id": Rule("informational", "a number of each kernel's own mount table"),
    "f_bsize": Rule("informational", "v9fs reports a block size derived from msize"),
    "f_frsize": Rule("informational", "follows f_bsize; block counts are compared as bytes"),
    "f_blocks": Rule("rescaled", "counted in f_frsize, which differs inside"),
    "f_bfree": Rule("rescaled", "counted in f_frsize; other users of the host's disk move it"),
    "f_bavail": Rule("rescaled", "counted in f_frsize; other users of the host's disk move it"),
    "f_files": Rule("exact", "travels in Rstatfs.files"),
    "f_ffree": Rule("rescaled", "other users of the host's disk move it"),
    "f_favail": Rule("rescaled", "other users of the host's disk move it"),
    "f_flag": Rule("informational", "mount flags are each kernel's own"),
    "f_namemax": Rule("exact", "travels in Rstatfs.namelen"),
    "f_fsid": Rule("exact", "travels in Rstatfs.fsid"),
    "name": Rule("exact", "names travel as they are"),
    "type": Rule("exact", "the file type of the entry"),
    "target": Rule("exact", "a link's text travels as it is"),
    "value": Rule("exact", "bytes travel as they are"),
    "exists": Rule("exact", "what is there on one side is there on the other"),
}


class Comparer:
    """The rules in force for one target, and the inode numbers that one case has seen."""

    def __init__(
        self, overrides: Mapping[str, Rule] | None = None, hidden: Callable[[str], bool] = lambda _: False
    ) -> None:
        self.rules = {**RULES, **(overrides or {})}
        self.hides = hidden
        """Whether the target keeps something of its own outside under that name."""
        self._inside_of: dict[Inode, Inode] = {}
        self._outside_of: dict[Inode, Inode] = {}

    def also(self, rules: Mapping[str, Rule]) -> Comparer:
        """A copy with further rules, which has seen no inodes."""
        return Comparer({**self.rules, **rules}, self.hides)

    def bare(self) -> Comparer:
        """A copy that hides nothing: for a file system on which the target keeps no data of its own."""
        return Comparer(self.rules)

    def forget_inodes(self) -> None:
        """Begin a new case: identities hold within one."""
        self._inside_of.clear()
        self._outside_of.clear()

    def stat(
        self,
        path: str,
        inside: Mapping[str, Any],
        outside: Mapping[str, Any],
        kind: str = "stat",
        tolerate: Mapping[str, str] | None = None,
    ) -> Comparison[Any]:
        """Compare two stat or statx results. `tolerate` maps plain field names to a reason for this once."""
        fields = []
        for name in outside:
            if name not in inside:
                continue
            rule = self._rule(_plain(name))
            equal = inside[name] == outside[name]
            if rule.kind == "identity":
                equal = self._same_inode(inside, outside)
            reason = (tolerate or {}).get(_plain(name)) or (rule.reason if rule.kind == "informational" else None)
            shown = None if equal else reason
            if rule.kind == "identity" and equal and inside[name] != outside[name]:
                shown = rule.reason
            fields.append(FieldComparison(name, inside[name], outside[name], rule.kind, equal, shown))
        return compared(kind, path, fields)

    def statvfs(
        self, path: str, inside: Mapping[str, Any], outside: Mapping[str, Any], outside_after: Mapping[str, Any]
    ) -> Comparison[Any]:
        """Compare statvfs: taken outside before and after, because others use the host's disk, too."""
        fields = []
        for name, value in inside.items():
            rule, seen = self._rule(name), outside.get(name)
            unit_in = inside["f_frsize"] if name.startswith("f_b") and rule.kind == "rescaled" else 1
            unit_out = outside["f_frsize"] if name.startswith("f_b") and rule.kind == "rescaled" else 1
            equal, tolerated = value == seen and unit_in == unit_out, None
            if not equal and rule.kind == "informational":
                tolerated = rule.reason
            elif not equal and rule.kind == "rescaled":
                low, high = sorted((outside[name] * unit_out, outside_after[name] * unit_out))
                slack = max(unit_in, unit_out)
                if low - slack <= value * unit_in <= high + slack:
                    tolerated = f"{rule.reason}: {value * unit_in} against {low}..{high}"
            fields.append(FieldComparison(name, value, seen, rule.kind, equal, tolerated))
        return compared("statvfs", path, fields)

    def entries(self, path: str, inside: Iterable[Entry], outside: Iterable[Entry]) -> Comparison[Any]:
        """Compare directories as (name, inode, type, device) of each entry: same names, same types, inode identity."""
        ours = {name: rest for name, *rest in inside}
        theirs = {name: rest for name, *rest in outside if not self.hides(name)}
        type_rule = self._rule("type")
        fields: list[FieldComparison[Any]] = [
            FieldComparison("names", sorted(ours), sorted(theirs), "exact", sorted(ours) == sorted(theirs))
        ]
        for name in sorted(ours.keys() & theirs.keys()):
            (inode, kind, device), (host_inode, host_kind, host_device) = ours[name], theirs[name]
            if kind != host_kind:
                why = type_rule.reason if type_rule.kind == "informational" else None
                fields.append(FieldComparison(f"{name!r} type", oct(kind), oct(host_kind), type_rule.kind, False, why))
            if not self._pair((device, inode), (host_device, host_inode)):
                fields.append(FieldComparison(f"{name!r} ino", inode, host_inode, "identity", False))
        return compared("readdir", path, fields)

    def values(
        self, kind: str, path: str, inside: Mapping[str, Any], outside: Mapping[str, Any], rule: str = "value"
    ) -> Comparison[Any]:
        """Compare named values exactly (xattrs, link text, content hashes, existence)."""
        fields = []
        for n in sorted(inside.keys() | outside.keys()):
            used = self._rule(n if kind == "xattr" and n in self.rules else rule)
            equal = n in inside and n in outside and inside[n] == outside[n]
            why = used.reason if used.kind == "informational" and not equal else None
            fields.append(FieldComparison(n, inside.get(n), outside.get(n), used.kind, equal, why))
        return compared(kind, path, fields)

    def judges(self, name: str) -> bool:
        """Whether a difference in that field is a finding here."""
        return self._rule(name).kind != "informational"

    def shown(self, values: Mapping[str, bytes]) -> dict[str, bytes]:
        """The host's attributes without those that the server keeps for itself."""
        return {name: value for name, value in values.items() if not self.hides(name)}

    def _rule(self, name: str) -> Rule:
        try:
            return self.rules[name]
        except KeyError:
            raise SuiteError(f"no comparison rule for field {name!r}: add it to conformance/vfs/compare.py") from None

    def _same_inode(self, inside: Mapping[str, Any], outside: Mapping[str, Any]) -> bool:
        prefix = "stx_" if "stx_ino" in inside else "st_"
        ours, theirs = ((seen[prefix + "dev"], seen[prefix + "ino"]) for seen in (inside, outside))
        return self._pair(ours, theirs)

    def _pair(self, inside: Inode, outside: Inode) -> bool:
        return (
            self._inside_of.setdefault(outside, inside) == inside
            and self._outside_of.setdefault(inside, outside) == outside
        )

    def forget(self, outside: Inode) -> None:
        """The file with this (st_dev, st_ino) outside is gone: both numbers may be reused."""
        inside = self._inside_of.pop(outside, None)
        if inside is not None:
            self._outside_of.pop(inside, None)


def _plain(name: str) -> str:
    return name.removeprefix("stx_").removeprefix("st_")
