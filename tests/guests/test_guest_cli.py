"""`assay9 guest` and the doctor's questions, without booting anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from guests import doctor
from guests.cli import guest
from guests.errors import InfrastructureError
from guests.private_qemu import directory as qemu_directory
from guests.uml.kernel import digest as uml_digest

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
        (["ssh", "true"], "no machine is running — assay9 guest boot"),
        (["console", "-m", "m-1"], "no machine called m-1 is running"),
        (["build", "debian99"], "no guest image called 'debian99'"),
        (["boot", "--qemu", "/no/such/qemu"], "no QEMU at '/no/such/qemu'"),
        (["boot", "--share", "work=/no/such/directory"], "does not exist — mkdir"),
    ],
)
def test_what_cannot_be_is_one_line_with_a_remedy(argv: list[str], words: str) -> None:
    done = CliRunner().invoke(guest, argv)
    assert isinstance(done.exception, InfrastructureError)
    assert words in str(done.exception) and "\n" not in str(done.exception)


def test_a_share_without_a_directory_is_a_usage_error() -> None:
    assert CliRunner().invoke(guest, ["boot", "--share", "work"]).exit_code == 2


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


def test_every_probe_answers_and_every_lack_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.probes(qemu="/no/such/qemu", quick=True)
    assert len({finding.name for finding in found}) == len(found)
    lacks = [finding for finding in found if not finding.ok]
    assert all(finding.remedy for finding in lacks)
    assert any("no QEMU at" in finding.detail and finding.needed for finding in lacks)
