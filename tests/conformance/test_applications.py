"""Layer application: what a declaration may contain, and how a difference is reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from assay9.cli import cli
from conformance.cases.application.test_programs import failures
from conformance.catalogue.applications import application, applications, packages
from conformance.errors import UsageError
from conformance.evidence.record import find_run, load_run
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


def test_the_calls_that_failed_are_named_without_what_differs_anyway() -> None:
    trace = (
        '4711  rename("/mnt/a/x", "/mnt/a/y") = -1 EXDEV (Invalid cross-device link)\n'
        '4712  openat(AT_FDCWD, "/mnt/a/z", O_RDONLY) = 3\n'
        "4712  ioctl(1, TCGETS, 0x7ffe12345678) = -1 ENOTTY (Inappropriate ioctl for device)\n"
    )
    assert failures(trace, "/mnt/a") == [
        'rename("./x", "./y") = -1 EXDEV (Invalid cross-device link)',
        "ioctl(1, TCGETS, N) = -1 ENOTTY (Inappropriate ioctl for device)",
    ]


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
