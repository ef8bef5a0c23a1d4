"""Kinds of targets: each registers itself, and one from another package needs no change elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from conformance.errors import UsageError
from conformance.sut import registry
from conformance.sut.kind import CAPABILITIES
from conformance.sut.load import load, names, schema
from conformance.sut.local.kind import Local
from tests.targets import asked

SECOND = Path(__file__).parents[1] / "second_qemu" / "second.toml"
SUITE = Path(__file__).parents[2]


def command(*words: str, seconds: float = 600.0) -> subprocess.CompletedProcess[str]:
    """`assay9` with the exercise's kind registered."""
    return subprocess.run(
        [sys.executable, "-m", "assay9", *words],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        cwd=SUITE,
        env={**os.environ, registry.VARIABLE: "tests.second_qemu.kind", "NO_COLOR": "1", "COLUMNS": "200"},
    )


def test_every_target_here_is_of_a_kind_that_registers_itself() -> None:
    kinds = registry.kinds()
    assert {load(name).kind for name in names()} <= set(kinds)
    for name, kind in kinds.items():
        assert (kind.name, kind.capabilities <= set(CAPABILITIES), bool(kind.title)) == (name, True, True)
        assert type(kind).__module__ == f"conformance.sut.{type(kind).__module__.split('.')[2]}.kind", (
            "one package each"
        )


def test_no_code_branches_on_the_name_of_a_kind() -> None:
    branch = re.compile(
        r"(target|loaded)\.kind\s*(==|!=|in\b)|\bkind\s*(==|!=|in\b)\s*\(?[\"'](qemu|uml|tcp|v86|local|server)"
    )
    folders = ("assay9", "conformance", "guests", "soak")
    files = [path for folder in folders for path in (SUITE / folder).rglob("*.py")]
    found = [
        f"{path}:{n}"
        for path in files
        for n, line in enumerate(path.read_text().splitlines(), 1)
        if branch.search(line)
    ]
    assert len(files) > 200 and not found


def test_a_name_is_registered_once() -> None:
    with pytest.raises(UsageError, match="kind local is registered twice"):
        registry.register(Local())


def test_the_toml_of_all_kinds_is_one_union() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        schema().validate_python({"name": "x", "kind": "uml", "title": "x", "machine": {"program": "qemu"}})
    kinds = set(schema().json_schema()["discriminator"]["mapping"])
    assert kinds == set(registry.kinds())


def test_a_key_of_another_kind_is_named_with_what_this_one_has(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('kind = "local"\ntitle = "x"\n[machine]\nmemory_mb = 9\n')
    with pytest.raises(UsageError, match="machine does not apply to 'local', which has components, kind, "):
        load(str(tmp_path / "mine.toml"))


def test_an_option_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="--qemu does not apply: target local runs no QEMU"):
        asked("local", qemu="/bin/true")
    assert asked("local", through=("cat",)).options.through == ("cat",)


def test_a_kind_of_another_package_brings_its_options_and_its_tables(tmp_path: Path) -> None:
    assert "--cpu MODEL" in command("run", "--help").stdout
    (tmp_path / "bad.toml").write_text(SECOND.read_text().replace("cpu =", "cqu ="))
    refused = command("run", str(tmp_path / "bad.toml"))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "unknown key 'machine.cqu': did you mean 'cpu'?" in refused.stderr
    refused = command("run", "local", "--cpu", "qemu64")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--cpu does not apply: target local has no processor to choose" in refused.stderr


def test_a_kind_that_cannot_be_imported_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "assay9", "targets"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=SUITE,
        env={**os.environ, registry.VARIABLE: "no.such.kind"},
    )
    assert (done.returncode, done.stderr.count("\n")) == (
        2,
        1,
    ) and "kind no.such.kind cannot be imported" in done.stderr


def test_a_kind_of_another_package_runs_raw_cases(tmp_path: Path) -> None:
    done = command("run", str(SECOND), "--layer", "wire", "-k", "WIRE-OPEN-001", "--jobs=1", f"--results={tmp_path}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-500:]
    assert "second: nothing unexpected" in done.stdout


@pytest.mark.guest
def test_a_kind_of_another_package_runs_cases_in_its_guest(tmp_path: Path) -> None:
    done = command("run", str(SECOND), "-k", "OPEN-001 or STAT-001", "--jobs=1", f"--results={tmp_path}", seconds=1800)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-500:]
    assert "second: nothing unexpected" in done.stdout
