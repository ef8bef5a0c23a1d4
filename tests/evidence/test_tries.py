"""Several tries of a case: none is forgotten, and a fail never becomes a pass. Also: the choice and order of cases."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from assay9.tries import unexpected_of, words_of
from conformance.errors import UsageError
from conformance.evidence.models import Record, SeenFinding
from conformance.gating.gate import exit_status
from conformance.gating.tries import joined, judged
from conformance.profiles.suggest import suggestions
from conformance.pytest_session.selection import read_only, shuffled, write_only
from tests.evidence.test_baseline import TROUBLE, case, run


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        (("pass", "pass"), "pass"),
        (("fail", "pass"), "unstable"),
        (("pass", "fail"), "unstable"),
        (("known", "pass", "known"), "unstable"),
        (("pass", "undrivable"), "unstable"),
        (("fail", "fail"), "fail"),
        (("known", "known"), "known"),
        (("error", "pass"), "unstable"),
    ],
)
def test_a_case_that_does_not_end_alike_is_unstable(verdicts: tuple[str, ...], verdict: str) -> None:
    seen = judged([case("A", one) for one in verdicts])
    assert seen.verdict == verdict
    assert len(seen.tries) == len(verdicts)
    if verdict == "unstable":
        assert f"{verdicts.count('pass')} of {len(verdicts)} tries passed" in seen.reason


def test_a_try_that_the_machine_broke_leaves_the_verdict_to_the_others_and_is_reported() -> None:
    lost = case("A", "error", infrastructure=True, reason="no guest")
    seen = judged([lost, case("A", "pass")])
    assert seen.verdict == "pass" and seen.tries == ["error: no guest", "pass"]
    assert judged([lost, lost]).verdict == "error"


def test_an_unstable_case_is_never_a_pass_of_the_run() -> None:
    both = joined([run(A="fail"), run(A="pass")])
    assert both.counts["unstable"] == 1 and exit_status(both) == 1
    assert both.selected == len(both.results)


def test_what_only_one_try_has_is_kept_and_so_are_troubles() -> None:
    one = run(A="pass")
    part = Record(environment=one.environment, results=[case("A", "pass")], troubles=TROUBLE)
    both = joined([one, part])
    assert len(both.results) == len(one.results) and both.troubles == TROUBLE


def test_the_order_is_random_the_same_for_a_seed_and_keeps_mounts_together() -> None:
    items = [(mount, n) for mount in ("none", "loose") for n in range(50)]

    def ordered(seed: str) -> list[tuple[str, int]]:
        return shuffled(items, lambda item: item[0], seed)

    assert ordered("1") == ordered("1") != ordered("2")
    assert sorted(ordered("1")) == sorted(items)
    changes = sum(a[0] != b[0] for a, b in zip(ordered("1"), ordered("1")[1:], strict=False))
    assert changes == 1


def test_a_list_of_cases_is_read_back_and_a_wrong_one_refused(tmp_path: Path) -> None:
    file = tmp_path / "results" / "only.json"
    write_only([("A[x]", "cache=none"), ("B", "")], file)
    assert read_only(file) == {("A[x]", "cache=none"), ("B", "")}
    for text in ("{", "[1]", '[["a"]]', "3"):
        file.write_text(text)
        with pytest.raises(UsageError, match="is not a list"):
            read_only(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_only(tmp_path / "none.json")


def commanded(command: str) -> Record:
    made = run(A="fail", B="error", C="known")
    return made.model_copy(update={"environment": made.environment.model_copy(update={"command": command})})


def test_a_rerun_has_the_words_of_the_run_without_those_that_choose_cases() -> None:
    record = commanded("assay9 run qemu -k 'A or B' --mount cache=loose --results /x --qemu=/opt/q --jobs=2 --limit 3m")
    assert words_of(record) == ["qemu", "--mount", "cache=loose", "--qemu=/opt/q", "--jobs=2"]
    assert unexpected_of(record) == [("A", ""), ("B", "")]
    for command in ("", "pytest conformance/cases", "assay9 run 'x"):
        with pytest.raises(UsageError, match="no command of"):
            words_of(commanded(command))
    with pytest.raises(UsageError, match="no unexpected result"):
        unexpected_of(run(C="known"))


def test_a_suggested_entry_is_toml_that_a_person_has_to_complete() -> None:
    finding = SeenFinding(code="errno", text="open gave EIO", values={"call": "open", "seen": "EIO", "path": "/x/y"})
    failed = [case("A", "fail", mount=m, findings=[finding]) for m in ("cache=none", "cache=none,posixacl")]
    text = suggestions(run(*failed, B="fixed", C="varies"))
    (entry,) = tomllib.loads(text)["profile"]["known"]
    assert entry == {
        "case": "A",
        "finding": "errno",
        "values": {"call": "open", "seen": "EIO"},
        "mount": "cache=none*",
        "reason": "",
        "link": "",
    }
    assert "# B passes" in text and "C" not in [line[2:3] for line in text.splitlines()]
    assert suggestions(run(A="pass")) == ""
