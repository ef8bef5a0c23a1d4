"""`assay9 profile check`: which entries never match, match too much, are wide, or have no link."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from assay9.profile import profile
from conformance.catalogue.library import load_cases
from conformance.evidence.models import CaseResult, Record, SeenFinding
from conformance.evidence.record import RunWriter
from conformance.profiles import check
from conformance.profiles import load as profiles
from conformance.profiles.model import Known
from conformance.vocabulary import Verdict
from tests.evidence import sample

IDS = ["OPEN-001", "OPEN-002", "LOCK-001"]


def entry(**more: Any) -> Known:
    declared = {
        "case": "OPEN-001",
        "reason": "r",
        "link": "https://example.org/1",
        "finding": "errno",
        "values": {"call": "open", "seen": "EIO"},
        **more,
    }
    return Known.model_validate(declared)


def result(verdict: Verdict = "known", *codes: str, seen: str = "EIO", **more: Any) -> CaseResult:
    found = [SeenFinding(code=code, text="t", values={"seen": seen, "call": "open"}) for code in codes]
    return (
        sample.record(1)
        .results[0]
        .model_copy(
            update={
                "case_id": "OPEN-001",
                "id": "OPEN-001",
                "parameters": "",
                "mount": "cache=none",
                "verdict": verdict,
                "findings": found,
                **more,
            }
        )
    )


def record(*results: CaseResult) -> Record:
    return sample.record(1).model_copy(update={"results": list(results)})


def judged(known: Known, *results: CaseResult) -> check.Verdict:
    return check.check([known], IDS, [record(*results)] if results else [])[0]


@pytest.mark.parametrize(
    ("more", "width"),
    [
        ({}, "narrow"),
        ({"finding": "field:size", "values": {}}, "narrow"),
        ({"finding": ["field:size", "field:mode"], "values": {}}, "medium"),
        ({"values": {"what": "size of *"}}, "medium"),
        ({"values": {"what": "*"}}, "wide"),
        ({"values": {"what": "a*"}}, "wide"),
        ({"values": {}}, "wide"),
        ({"finding": "field:*", "values": {"seen": "1"}}, "wide"),
        ({"finding": ["errno", "value"], "values": {"seen": ["EIO", "EPERM"]}}, "medium"),
    ],
)
def test_how_narrow_an_entry_is(more: dict[str, Any], width: str) -> None:
    assert check.width_of(entry(**more)) == width


@pytest.mark.parametrize(
    ("link", "valid"),
    [
        ("https://gitlab.com/qemu-project/qemu/-/issues/103", True),
        ("https://github.com/torvalds/linux/blob/v6.1/fs/9p/vfs_file.c (v9fs_file_lock)", False),
        ("fs/9p/vfs_file.c", False),
        ("https://", False),
        ("ftp://example.org/x", False),
    ],
)
def test_a_link_is_a_url_and_nothing_else(link: str, valid: bool) -> None:
    assert check.is_url(link) is valid
    assert [p for p in judged(entry(link=link)).problems if "link" in p] == (
        [] if valid else [f"its link is not a URL: {link}"]
    )


class TestMasks:
    """Other faults replace the declared one: which of them the entry would cover."""

    def test_one_that_names_errno_and_call_masks_nothing(self) -> None:
        assert judged(entry()).masks == ()

    def test_one_that_names_the_errno_alone_masks_it_in_other_calls(self) -> None:
        assert judged(entry(values={"seen": "EIO"})).masks == ("errno EIO",)

    def test_one_of_a_code_alone_masks_all_that_has_the_code(self) -> None:
        assert set(judged(entry(values={})).masks) == {
            "errno EIO",
            "errno EACCES",
            "errno EINVAL",
            "errno ENOENT",
            "errno success",
        }
        assert set(judged(entry(values={}, finding="field:*")).masks) >= {"field:size", "field:mtime_ns"}

    def test_what_it_is_for_is_not_masked(self) -> None:
        assert judged(entry(values={"seen": "EIO"}), result("known", "errno")).masks == ()


class TestRecords:
    """What an entry has covered in real runs."""

    def test_one_that_matches(self) -> None:
        seen = judged(entry(), result("known", "errno", unreached=4))
        assert (seen.covered, seen.results, seen.applied, seen.unreached, seen.problems) == (1, 1, 1, 4, ())

    def test_one_that_never_matches(self) -> None:
        seen = judged(entry(), result("pass"), result("fail", "content"))
        assert seen.problems == ("never matches: 2 results of its cases in these runs, 1 passed",)

    def test_not_where_it_does_not_apply_or_depends_on_a_race(self) -> None:
        assert judged(entry(mount="cache=loose"), result("pass")).problems == ()
        assert judged(entry(versions=">=99"), result("pass")).problems == ()
        assert judged(entry(sometimes=True), result("pass")).problems == ()
        assert judged(entry(), result("undrivable")).problems == ()

    def test_not_where_other_entries_cover_all_that_failed(self) -> None:
        seen = judged(entry(), result("known", "content"))
        assert (seen.problems, seen.hidden) == ((), 1)

    def test_one_that_matches_much(self) -> None:
        seen = judged(entry(), result("known", *["errno"] * 21))
        assert seen.problems == ("matches much: 21 findings of one result",)

    def test_an_entry_for_no_case(self) -> None:
        assert judged(entry(case="OPEN-999")).problems == ("names no case",)
        assert judged(entry(case=["OPEN-00*[x]", "LOCK-001"])).cases == ("LOCK-001", "OPEN-001", "OPEN-002")


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'kind = "local"\ntitle = "mine"\n[[profile.known]]\ncase = "OPEN-001"\nfinding = "errno"\n'
        'values = { seen = "EIO", call = "open" }\nreason = "a reason"\nlink = "https://example.org"\n'
    )
    writer = RunWriter.create(tmp_path, sample.environment("mine"))
    writer.append(result("pass"))
    writer.finish()
    run = CliRunner().invoke
    alone = run(profile, ["check", str(tmp_path / "mine.toml")])
    expected = "1 known failures: 1 narrow, 0 medium, 0 wide; 0 with a problem\n"
    assert (alone.exit_code, alone.output) == (0, expected)
    with_run = run(profile, ["check", str(tmp_path / "mine.toml"), "--run", str(writer.run_dir)])
    assert with_run.exit_code == 1 and "never matches: 1 results" in with_run.output and "a reason" in with_run.output
    shown = json.loads(run(profile, ["check", str(tmp_path / "mine.toml"), "--json"]).output)
    assert (shown[0]["component"], shown[0]["width"], shown[0]["masks"]) == ("mine", "narrow", [])


def test_nothing_is_to_be_fixed_of_the_entries_here() -> None:
    """Each entry names cases, links a URL and is no wider than necessary: see `assay9 profile check`."""
    ids = [case.id for case in load_cases()]
    for name in profiles.names():
        entries = profiles.component(name, Path("x.toml")).profile.known
        wrong = {f"{v.entry.cases}: {v.entry.reason}": v.problems for v in check.check(entries, ids) if v.problems}
        assert wrong == {}, name
