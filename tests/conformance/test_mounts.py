"""conformance.vfs.mount_options: the requested options, their spelling, and whether /proc/mounts contradicts them."""

from __future__ import annotations

import pytest

from conformance.case import CACHES
from conformance.errors import UsageError
from conformance.vfs.mount_options import DEFAULT, LARGEST_MSIZE, MountOptions, for_all_cases, matrix, parse

BASE = "rw,sync,dirsync,relatime,access=client,trans=virtio"


def test_the_default_and_its_name() -> None:
    assert str(DEFAULT) == "cache=none"
    assert DEFAULT.options() == "trans=virtio,version=9p2000.L,msize=131072,access=client,cache=none"


def test_a_name_says_what_differs() -> None:
    options = MountOptions(cache="mmap", msize=8192, access="user", posixacl=True)
    assert str(options) == "cache=mmap,msize=8192,access=user,posixacl"
    assert parse(str(options)) == options


@pytest.mark.parametrize("text", ["cache=loose", "msize=4096", "access=1001", "version=9p2000.u", "posixacl", ""])
def test_parse_and_spell_agree(text: str) -> None:
    assert parse(str(parse(text))) == parse(text)


def test_parse_over_a_base() -> None:
    assert parse("posixacl", MountOptions(cache="mmap")) == MountOptions(cache="mmap", posixacl=True)
    assert parse("", MountOptions(cache="mmap")) == MountOptions(cache="mmap")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cahce=none", "did you mean 'cache'"),
        ("zebra=1", "use one of"),
        ("cache=non", "did you mean 'none'"),
        ("cache=zz", "use one of fscache, loose"),
        ("cache=none,cache=loose", "given twice"),
        ("version=9p2000", "did you mean '9p2000.[Lu]'"),
        ("posixacl=0", "takes no value"),
        ("access=usr", "did you mean 'user'.*or a uid"),
        ("access=4294967295", "or a uid"),
        ("msize=\N{SUPERSCRIPT TWO}", "4096 or more"),
        ("msize=99999999999999999999", "4096 or more"),
        ("msize=4095", "4096 or more"),
        ("msize=big", "4096 or more"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(text)


def test_the_older_version_brings_the_access_mode_that_it_has() -> None:
    assert for_all_cases("version=9p2000.u") == MountOptions(version="9p2000.u", access="user")
    assert parse("version=9p2000.u", MountOptions(access="any")).access == "any"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("access=1001", "use access=0"),
        ("version=9p2000.u,access=client", "use version=9p2000.u,access=user"),
        ("posixacl,access=user", "posixacl needs access=client"),
        ("posixacl,version=9p2000.u", "posixacl needs access=client"),
    ],
)
def test_a_mount_on_which_no_case_could_run_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        for_all_cases(text)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (DEFAULT, BASE),
        (DEFAULT, BASE + ",cache=none,msize=131072"),
        (DEFAULT, BASE + ",cache=0"),
        (MountOptions(cache="mmap"), BASE + ",cache=mmap,msize=131072"),
        (MountOptions(cache="mmap"), BASE + ",cache=5"),
        (MountOptions(cache="loose"), BASE + ",cache=f"),
        (MountOptions(cache="readahead"), BASE + ",cache=0x1"),
        (MountOptions(posixacl=True), BASE + ",posixacl"),
        (MountOptions(access="user"), "rw,access=user,trans=virtio"),
        (MountOptions(access="1001"), "rw,access=1001,trans=virtio"),
        (MountOptions(version="9p2000.u", access="user"), "rw,version=9p2000.u,trans=virtio"),
    ],
)
def test_in_force(options: MountOptions, shown: str) -> None:
    assert options.contradicted_by(shown) == []


@pytest.mark.parametrize(
    ("options", "shown", "said"),
    [
        (MountOptions(cache="mmap"), BASE, "cache is none"),
        (MountOptions(cache="mmap"), BASE + ",cache=f", "cache is loose"),
        (DEFAULT, BASE + ",cache=loose", "cache is loose"),
        (MountOptions(msize=512_000), BASE + ",msize=131072", "msize is 131072"),
        (MountOptions(access="any"), BASE, "access is client"),
        (MountOptions(posixacl=True), BASE, "posixacl"),
        (MountOptions(version="9p2000.u", access="user"), "rw,access=user", "version is 9p2000.L"),
    ],
)
def test_contradicted(options: MountOptions, shown: str, said: str) -> None:
    assert any(said in line for line in options.contradicted_by(shown))


def test_the_matrix() -> None:
    every = matrix()
    assert len(set(every)) == len(every)
    assert {m.cache for m in every} == set(CACHES)
    assert {m.msize for m in every} == {4096, 8192, 131_072, LARGEST_MSIZE}
    assert any(m.posixacl for m in every) and any(m.version == "9p2000.u" for m in every)
