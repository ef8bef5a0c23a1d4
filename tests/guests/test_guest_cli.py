"""`assay9 guest` and the checks of `assay9 doctor`, without a boot."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from guests import doctor
from guests.cli import guest
from guests.errors import InfrastructureError, UsageError
from guests.images import store
from guests.machines.qemu import check as qemu_check
from guests.machines.qemu.private import directory as qemu_directory
from guests.machines.uml.kernel import digest as uml_digest

pytestmark = pytest.mark.usefixtures("private_runtime", "private_cache")


def test_help_teaches_by_example() -> None:
    said = CliRunner().invoke(guest, ["--help"]).output
    for words in ("assay9 guest boot --share", "assay9 guest console", "list", "build", "clean"):
        assert words in said


def test_list_names_every_recipe() -> None:
    done = CliRunner().invoke(guest, ["list"])
    assert done.exit_code == 0
    assert [name for name in ("debian11", "debian12", "debian13") if name in done.output] != []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["console", "-m", "m-1"], "unknown machine 'm-1'"),
        (["build", "debian12", "debain13"], "unknown guest image 'debain13': did you mean 'debian13'?"),
        (["build", "--all", "debian12"], "--all builds debian12 as well"),
        (["build", "--package", "no such"], "--package 'no such'"),
        (["build", "uml", "--package", "gcc"], "--package does not apply to uml"),
        (["boot", "debain12"], "unknown guest image 'debain12': did you mean 'debian12'?"),
        (["boot", "--qemu", "/no/such/qemu"], "no QEMU at '/no/such/qemu'"),
        (["boot", "--qemu", "/bin/true"], "/bin/true is not a QEMU"),
        (["boot", "--qemu-arg", "-nosuch"], "does not start with -nosuch"),
        (["boot", "--share", "work"], "give TAG=DIR"),
        (["boot", "--share", "work=/no/such/directory"], "does not exist — mkdir"),
        (["boot", "--share", "a=/", "--share", "a=/"], "two shares with one tag"),
        (["boot", "--share", f"{'t' * 32}=/"], "1 to 31 bytes"),
        (["boot", "v86", "--port", "2222"], "--port does not apply to v86"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_starts(argv: list[str], words: str) -> None:
    done = CliRunner().invoke(guest, argv)
    assert isinstance(done.exception, UsageError)
    assert words in str(done.exception) and "\n" not in str(done.exception)


def test_a_shell_in_no_machine_is_one_line_with_a_remedy() -> None:
    done = CliRunner().invoke(guest, ["ssh", "true"])
    assert isinstance(done.exception, InfrastructureError)
    assert "no machine is running — assay9 guest boot" in str(done.exception)


def test_cleaning_an_empty_cache_says_so() -> None:
    assert CliRunner().invoke(guest, ["clean", "--all"]).output == "nothing to clean\n"


def test_cleaning_removes_what_no_recipe_makes_any_more(private_cache: Path) -> None:
    old = private_cache / "images" / "debian12-0123456789ab"
    building = private_cache / "images" / ".debian12-ba9876543210.tmp-1"
    old.mkdir(parents=True)
    building.mkdir()
    assert f"removed {old}" in CliRunner().invoke(guest, ["clean"]).output
    assert not old.exists() and building.exists()


def test_cleaning_keeps_this_checkouts_kernel_and_qemu_unless_all_goes(private_cache: Path) -> None:
    current = [private_cache / f"uml-{uml_digest()}", qemu_directory()]
    old = [private_cache / "uml-0123456789ab", private_cache / "qemu11-0123456789ab"]
    for directory in (*current, *old):
        directory.mkdir(parents=True)
    assert CliRunner().invoke(guest, ["clean"]).output.splitlines() == [f"removed {path}" for path in old]
    assert all(path.exists() for path in current)
    assert len(CliRunner().invoke(guest, ["clean", "--all"]).output.splitlines()) == 2
    assert not any(path.exists() for path in current)


def test_the_doctor_says_how_to_get_the_kernel_and_the_newer_qemu(
    private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "missing_tools", lambda: ["bison", "flex"])
    kernel, qemu = doctor.uml_kernel(), doctor.private_qemu()
    assert not list(private_cache.iterdir()) and not kernel.ok and not qemu.ok
    assert not kernel.needed and not qemu.needed, "other targets run without them"
    assert kernel.remedy == "apt-get install bison flex; assay9 guest build uml"
    assert qemu.remedy == "assay9 guest build qemu11"


def test_every_probe_answers_and_everything_missing_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.probes(qemu="/no/such/qemu", quick=True)
    assert len({finding.name for finding in found}) == len(found)
    missing = [finding for finding in found if not finding.ok]
    assert all(finding.remedy for finding in missing)
    assert any("no QEMU at" in finding.detail and finding.needed for finding in missing)


def test_a_taken_port_is_reported_before_anything_is_built_or_booted(private_cache: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        done = CliRunner().invoke(guest, ["boot", "--port", str(port)])
    assert isinstance(done.exception, InfrastructureError)
    assert done.exception.message == f"port {port} on 127.0.0.1 is taken"
    assert done.output == "" and not list(private_cache.glob("boot-*")), "nothing was begun"


@pytest.mark.parametrize("port", ["0", "65536", "-1", "ssh"])
def test_a_port_that_is_none_is_a_usage_error(port: str) -> None:
    assert CliRunner().invoke(guest, ["boot", "--port", port]).exit_code == 2


def test_the_log_that_a_failed_boot_names_is_still_there(
    private_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """QEMU dies while the snapshot is made; nothing of the snapshot is left but the log."""
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\n[ $1 = --version ] && echo version 9.9 && exit\necho oh no >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(store, "build", lambda recipe, directory, progress: _image(directory))
    for name in ("require_build_tools", "require_space"):
        monkeypatch.setattr(store, name, lambda *_: None)
    monkeypatch.setattr(qemu_check, "require", lambda *_: None)
    done = CliRunner().invoke(guest, ["boot", "--qemu", str(program), "--accelerator", "tcg"])
    assert isinstance(done.exception, InfrastructureError) and "oh no" in done.exception.message
    log = Path(done.exception.remedy.split()[1])
    assert log.read_text().splitlines() == ["oh no"]
    assert not list(private_cache.glob("snapshots/[!.]*")) and not list(private_cache.glob("snapshots/.*.tmp*"))
    CliRunner().invoke(guest, ["clean"])
    assert not log.exists()


def _image(directory: Path) -> None:
    for name in store.FILES:
        (directory / name).write_text('{"build_id": "b"}')
