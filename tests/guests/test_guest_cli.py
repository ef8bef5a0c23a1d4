"""`assay9 guest` and the doctor's questions, without booting anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from guests import doctor
from guests.cli import guest
from guests.errors import InfrastructureError

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


def test_every_probe_answers_and_every_lack_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.probes(qemu="/no/such/qemu", quick=True)
    assert len({finding.name for finding in found}) == len(found)
    lacks = [finding for finding in found if not finding.ok]
    assert all(finding.remedy for finding in lacks)
    assert any("no QEMU at" in finding.detail and finding.needed for finding in lacks)
