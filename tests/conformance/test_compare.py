"""conformance.vfs.compare: every kind of rule, in both directions."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.errors import SuiteError
from conformance.vfs.compare import RULES, Comparer, Entry, Rule

STAT = {
    "st_mode": 0o100644,
    "st_ino": 12,
    "st_dev": 1,
    "st_nlink": 1,
    "st_uid": 0,
    "st_gid": 0,
    "st_size": 5,
    "st_blksize": 4096,
    "st_blocks": 8,
    "st_rdev": 0,
    "st_atime_ns": 1,
    "st_mtime_ns": 2,
    "st_ctime_ns": 3,
}
STATVFS = {
    "f_bsize": 4096,
    "f_frsize": 4096,
    "f_blocks": 1000,
    "f_bfree": 500,
    "f_bavail": 400,
    "f_files": 99,
    "f_ffree": 50,
    "f_favail": 50,
    "f_flag": 0,
    "f_namemax": 255,
    "f_fsid": 7,
}


def test_equal_is_equal() -> None:
    found = Comparer().stat("x", STAT, STAT)
    assert found.ok and all(f.equal and f.tolerated is None for f in found.fields)
    assert {f.name for f in found.fields} == set(STAT)


@pytest.mark.parametrize("field", [n for n in STAT if RULES[n.removeprefix("st_")].kind == "exact"])
def test_one_off_in_an_exact_field_is_a_difference(field: str) -> None:
    found = Comparer().stat("x", {**STAT, field: STAT[field] + 1}, STAT)
    assert not found.ok
    (different,) = (f for f in found.fields if not f.ok)
    assert (different.name, different.inside, different.outside) == (field, STAT[field] + 1, STAT[field])


@pytest.mark.parametrize("field", ["st_dev", "st_blksize"])
def test_informational_fields_are_shown_with_their_reason(field: str) -> None:
    found = Comparer().stat("x", {**STAT, field: 77}, STAT)
    assert found.ok
    shown = next(f for f in found.fields if f.name == field)
    assert not shown.equal and shown.tolerated == RULES[field.removeprefix("st_")].reason


def test_every_rule_has_a_reason_and_a_known_kind() -> None:
    assert all(r.reason and r.kind in ("exact", "identity", "rescaled", "informational") for r in RULES.values())


class TestIdentity:
    """Inode numbers: the values may differ, the pairing may not."""

    def test_another_number_is_tolerated_and_shown(self) -> None:
        found = Comparer().stat("x", {**STAT, "st_ino": 1012}, STAT)
        assert found.ok
        assert next(f for f in found.fields if f.name == "st_ino").tolerated

    def test_one_file_with_two_numbers_is_a_difference(self) -> None:
        comparer = Comparer()
        assert comparer.stat("x", {**STAT, "st_ino": 1012}, STAT).ok
        assert not comparer.stat("x", {**STAT, "st_ino": 1013}, STAT).ok

    def test_two_files_with_one_number_are_a_difference(self) -> None:
        comparer = Comparer()
        assert comparer.stat("x", {**STAT, "st_ino": 1012}, STAT).ok
        assert not comparer.stat("y", {**STAT, "st_ino": 1012}, {**STAT, "st_ino": 13}).ok

    def test_the_same_number_on_two_host_devices_is_two_files(self) -> None:
        comparer = Comparer()
        assert comparer.stat("x", {**STAT, "st_ino": 1012}, STAT).ok
        assert not comparer.stat("y", {**STAT, "st_ino": 1012}, {**STAT, "st_dev": 2}).ok
        assert comparer.stat("z", {**STAT, "st_ino": 1014}, {**STAT, "st_dev": 3}).ok

    def test_numbers_of_files_that_are_gone_may_return(self) -> None:
        comparer = Comparer()
        comparer.stat("x", {**STAT, "st_ino": 1012}, STAT)
        comparer.forget((1, 12))
        assert comparer.stat("y", {**STAT, "st_ino": 1013}, STAT).ok
        assert comparer.stat("z", {**STAT, "st_ino": 1012}, {**STAT, "st_ino": 13}).ok

    def test_each_case_starts_over(self) -> None:
        comparer = Comparer()
        comparer.stat("x", {**STAT, "st_ino": 1012}, STAT)
        comparer.forget_inodes()
        assert comparer.stat("x", {**STAT, "st_ino": 4}, STAT).ok


class TestTolerance:
    """What a single case tolerates, and what a target overrides."""

    def test_a_tolerated_difference_keeps_its_reason(self) -> None:
        found = Comparer().stat("x", {**STAT, "st_size": 6}, STAT, tolerate={"size": "because"})
        assert found.ok
        assert next(f for f in found.fields if f.name == "st_size").tolerated == "because"

    def test_tolerating_one_field_tolerates_no_other(self) -> None:
        assert not Comparer().stat("x", {**STAT, "st_mode": 0}, STAT, tolerate={"size": "because"}).ok

    def test_a_target_overrides_a_rule(self) -> None:
        comparer = Comparer({"mode": Rule("informational", "mapped")})
        assert comparer.stat("x", {**STAT, "st_mode": 0}, STAT).ok

    def test_an_attribute_with_a_rule_of_its_own_and_one_without(self) -> None:
        comparer = Comparer({"system.posix_acl_access": Rule("informational", "kept elsewhere")})
        assert comparer.values("xattr", "x", {"system.posix_acl_access": b"1"}, {}).ok
        assert not comparer.values("xattr", "x", {"user.a": b"1"}, {}).ok

    def test_a_field_without_a_rule_is_the_suites_error(self) -> None:
        with pytest.raises(SuiteError, match="flavour"):
            Comparer().stat("x", {"st_flavour": 1, **STAT}, {"st_flavour": 1, **STAT})


def test_statx_fields_have_rules_too() -> None:
    statx = {"stx_mode": 1, "stx_ino": 5, "stx_dev": 6, "stx_btime_ns": 7, "stx_size": 8}
    assert Comparer().stat("x", {**statx, "stx_btime_ns": 0}, statx, "statx").ok
    assert not Comparer().stat("x", {**statx, "stx_size": 9}, statx, "statx").ok


class TestStatvfs:
    """Block counts in different units, on a disk that other processes use."""

    def compare(self, inside: dict[str, Any], after: dict[str, Any] | None = None) -> bool:
        return Comparer().statvfs(".", {**STATVFS, **inside}, STATVFS, {**STATVFS, **(after or {})}).ok

    def test_equal(self) -> None:
        assert self.compare({})

    def test_rescaled_counts_are_compared_as_bytes(self) -> None:
        assert self.compare({"f_frsize": 8192, "f_bsize": 8192, "f_blocks": 500, "f_bfree": 250, "f_bavail": 200})

    def test_the_same_counts_in_another_unit_are_a_difference(self) -> None:
        assert not self.compare({"f_frsize": 8192, "f_bsize": 8192})

    def test_within_what_the_disk_moved(self) -> None:
        assert self.compare({"f_bfree": 480}, after={"f_bfree": 470})
        assert not self.compare({"f_bfree": 480})
        assert not self.compare({"f_bfree": 460}, after={"f_bfree": 470})

    def test_one_block_of_rounding_is_allowed_and_two_are_not(self) -> None:
        assert self.compare({"f_bfree": 501})
        assert not self.compare({"f_bfree": 502})

    @pytest.mark.parametrize("field", ["f_files", "f_namemax", "f_fsid"])
    def test_exact(self, field: str) -> None:
        assert not self.compare({field: STATVFS[field] + 1})


HOST: list[Entry] = [("a", 1, 0o100000, 1), ("b", 2, 0o040000, 1)]


class TestEntries:
    """Directories: names, types, inode identities."""

    def test_equal_with_other_numbers(self) -> None:
        assert Comparer().entries("d", [("a", 11, 0o100000, 9), ("b", 12, 0o040000, 9)], HOST).ok

    @pytest.mark.parametrize(
        "inside",
        [
            [("a", 11, 0o100000, 9)],
            [("a", 11, 0o100000, 9), ("b", 12, 0o040000, 9), ("c", 13, 0o100000, 9)],
            [("a", 11, 0o100000, 9), ("b", 12, 0o100000, 9)],
            [("a", 11, 0o100000, 9), ("b", 11, 0o040000, 9)],
        ],
        ids=["missing", "extra", "type", "same-inode"],
    )
    def test_differences(self, inside: list[Entry]) -> None:
        assert not Comparer().entries("d", inside, HOST).ok

    def test_what_the_server_keeps_for_itself_is_left_out(self) -> None:
        host: list[Entry] = [*HOST, (".virtfs_metadata", 3, 0o040000, 1)]
        inside: list[Entry] = [("a", 11, 0o100000, 9), ("b", 12, 0o040000, 9)]
        assert not Comparer().entries("d", inside, host).ok
        assert Comparer(hidden=lambda name: name.startswith(".virtfs_")).entries("d", inside, host).ok

    def test_on_the_control_nothing_is_the_server_s_own(self) -> None:
        """The control has the case's own file of that name on both sides; the share refuses it (QEMU, mapped-file)."""
        comparer = Comparer({"st_mode": Rule("informational", "the server's")}, lambda name: name == ".virtfs_metadata")
        own: list[Entry] = [(".virtfs_metadata", 12, 0o100000, 1)]
        assert not comparer.entries("d", own, own).ok
        assert comparer.bare().entries("d", own, own).ok
        assert comparer.bare().rules == comparer.rules


class TestValues:
    """Named values: extended attributes, hashes, existence."""

    def test_equal(self) -> None:
        assert Comparer().values("xattr", "x", {"user.a": b"1"}, {"user.a": b"1"}).ok
        assert Comparer().values("xattr", "x", {}, {}).ok

    @pytest.mark.parametrize(("inside", "outside"), [({"a": b"1"}, {"a": b"2"}), ({}, {"a": b"2"}), ({"a": b""}, {})])
    def test_different(self, inside: dict[str, bytes], outside: dict[str, bytes]) -> None:
        assert not Comparer().values("xattr", "x", inside, outside).ok

    def test_missing_is_not_none(self) -> None:
        assert not Comparer().values("xattr", "x", {"a": None}, {}).ok
