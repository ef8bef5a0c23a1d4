"""Layer application: what a declaration may contain, and how a difference is reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from assay9.cli import cli
from conformance.cases.application import calls
from conformance.catalogue.applications import application, applications, packages
from conformance.errors import UsageError
from conformance.evidence.host import CHECKOUT
from conformance.evidence.record import find_run, load_run
from conformance.selftest.declared import declared
from conformance.sut.asked import asked_of
from conformance.sut.layers import default_layers, drivable
from conformance.sut.load import load


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the applications that a test declares once it ends."""
    monkeypatch.setenv("ASSAY9_APPLICATIONS", "")
    yield
    applications.cache_clear()


def test_each_declaration_can_be_read() -> None:
    found = applications()
    assert {"git", "rsync", "tar", "sqlite", "fio"} <= set(found)
    assert {"git", "strace"} <= set(packages())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = 'a'", "script"),
        ("title = 'a'\nscript = 'true'\nskript = 'x'", "skript"),
        ("title = 'a'\nscript = 'true'\ncaches = ['nmap']", "did you mean 'mmap'"),
        ("title = 'a'\nscript = 'true'\nseconds = 0", "seconds"),
    ],
)
def test_a_wrong_declaration_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said) as refused:
        application(file)
    assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="no file"):
        application(tmp_path / "none.toml")


def test_the_layer_runs_where_it_is_named_and_brings_its_packages() -> None:
    target = load("reference-uml")
    assert "application" in drivable(target) and "application" not in default_layers(target)
    asked = asked_of(target, {}, ("application",))
    assert asked.use.mounted == ("application",) and asked.load is not None and "git" in asked.load.packages
    assert asked_of(target, {}, ("vfs",)).load is None


CONTROL = (
    '10  openat(AT_FDCWD</own>, "z", O_RDONLY) = 3</own/z>\n'
    '10  read(3</own/z>, "one", 8) = 3\n'
    '11  newfstatat(AT_FDCWD</own>, "z", {st_dev=makedev(0xfe, 0), st_ino=17, st_mode=S_IFREG|0644, st_nlink=2, '
    "st_size=3, st_mtime=1796053214 /* 2026-11-30 */, st_mtime_nsec=5}, 0) = 0\n"
    '10  rename("/own/x", "/own/y" <unfinished ...>\n'
    '11  write(4</own/log>, "A", 1) = 1\n'
    "10  <... rename resumed>)             = 0\n"
    '10  read(5</usr/lib/libc.so>, "elf", 8) = 3\n'
)


def on_share(*changes: tuple[str, str]) -> list[str]:
    """The differences where the share's calls are those of the control but for `changes`."""
    text = CONTROL.replace("/own", "/mnt/a").replace("st_ino=17", "st_ino=99").replace("1796053214", "1796053299")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    once = CONTROL.replace('"A"', '"B"')
    return list(calls.differences(calls.read(text, "/mnt/a"), [calls.read(one, "/own") for one in (CONTROL, once)]))


def test_the_same_calls_elsewhere_and_at_another_time_do_not_differ() -> None:
    assert on_share() == []


def test_a_call_that_fails_on_the_share_alone_is_named_with_what_it_gave_elsewhere() -> None:
    (seen,) = on_share(("resumed>)             = 0", "resumed>) = -1 EXDEV (Invalid cross-device link)"))
    assert seen == (
        'rename("./x", "./y") = -1 EXDEV (Invalid cross-device link), '
        'on the guest\'s own file system rename("./x", "./y") = 0'
    )


@pytest.mark.parametrize(
    ("before", "after"), [('"one", 8) = 3', '"two", 8) = 3'), ("st_nlink=2", "st_nlink=1"), ("st_size=3", "st_size=4")]
)
def test_a_call_that_succeeds_with_another_result_is_named(before: str, after: str) -> None:
    (seen,) = on_share((before, after))
    assert after in seen and before in seen


def test_what_differs_between_two_runs_elsewhere_is_not_compared() -> None:
    assert on_share(('"A"', '"C"')) == []


def test_a_call_that_the_client_does_not_have_is_not_compared() -> None:
    own = CONTROL + "10  fallocate(3</own/z>, FALLOC_FL_PUNCH_HOLE, 0, 4096) = 0\n"
    refused = own.replace("4096) = 0", "4096) = -1 EOPNOTSUPP (Operation not supported)")
    assert list(calls.differences(calls.read(refused, "/own"), [calls.read(own, "/own")] * 2)) == []
    full = own.replace("4096) = 0", "4096) = -1 ENOSPC (No space left on device)")
    assert len(list(calls.differences(calls.read(full, "/own"), [calls.read(own, "/own")] * 2))) == 1


def test_calls_on_files_elsewhere_are_not_compared() -> None:
    assert on_share(('"elf"', '"exe"')) == []


def test_a_program_of_the_user_runs_and_what_differs_is_a_finding(tmp_path: Path) -> None:
    """The target is a directory of this host: only the output of a script about its location can differ."""
    same, other = tmp_path / "own-alike.toml", tmp_path / "own-place.toml"
    same.write_text("title = 'a'\nscript = 'echo one > file; ln file two; cat two'")
    other.write_text("title = 'a'\nscript = 'case $PWD in *work) echo a > here; exit 3;; *) echo b > here;; esac'")
    argv = ["run", "local", "--layer", "application", "--mount", "cache=none", "-k", "own-", "--jobs", "1"]
    argv += ["--application", str(same), "--application", str(other), "--control", "never", "--results", str(tmp_path)]
    done = CliRunner().invoke(cli, argv)
    assert done.exit_code == 1, done.output
    verdicts = {r.parameters: r.verdict for r in load_run(find_run("local", tmp_path)).results}
    assert verdicts == {"own-alike": "pass", "own-place": "fail"}


def test_an_application_without_its_layer_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["run", "local", "--application", str(tmp_path / "a.toml")])
    assert isinstance(done.exception, UsageError) and "--layer application" in str(done.exception)


NOT_TRIED = {
    "bonnie",
    "ccache",
    "dbench",
    "fsstress",
    "gcc",
    "git-several",
    "npm",
    "pip",
    "postgresql",
    "stress-ng",
}
"""Programs for which no deliberate fault is known yet that they find. dbench passes where Trenameat does nothing."""
NOT_AT_HAND = {"fsx", "fsx-unmapped", "ltp"}
"""Programs of which no real build was at hand to try one with."""


def test_each_program_has_a_fault_that_it_finds_or_is_named_here() -> None:
    source, _ = declared([CHECKOUT / "tests" / "mutants" / "applications.toml"])
    found = {name.partition("[")[2].rstrip("]") for fault in source for name in fault.caught}
    without = NOT_TRIED | NOT_AT_HAND
    assert found | without == set(applications())
    assert not found & without
