"""The compatibility page: implementations side by side, and whose fault each failure is."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from click.testing import CliRunner

from conformance.evidence.models import KnownFailure, Record
from conformance.reports.publish_cli import table as command
from conformance.reports.table import table
from tests.evidence.test_baseline import case, kept, run


def made(target: str, **stands: str) -> Record:
    entry = KnownFailure(reason="broken", link="https://example.org/1", owner="client", component="linux-client")
    record = run(**{name: stood for name, stood in stands.items() if stood != "known"})
    known = [case(name, "known", known=entry) for name, stood in stands.items() if stood == "known"]
    results = [r.model_copy(update={"covers": ["Tlopen"]}) for r in [*record.results, *known]]
    environment = record.environment.model_copy(update={"target": target, "target_version": f"{target} 1"})
    return record.model_copy(update={"results": results, "environment": environment})


def rows(page: str, first: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith(f"| {first}")]


def test_a_failure_says_whose_fault_it_is_and_where_that_is_shown() -> None:
    page = table([made("one", A="known", B="pass"), made("two", A="pass", B="pass")], ["one", "two"])
    ((_, _, one, two),) = rows(page, "`A`")
    assert (one, two) == ("[fails: the guest's client](https://example.org/1)", "holds")
    assert not rows(page, "`B`"), "what holds everywhere has no row"
    ((_, one, two),) = rows(page, "`Tlopen`")
    assert (one, two) == ("10 of 11: 1 the guest's client", "yes")


def test_what_a_run_does_not_have_is_a_dash_and_what_was_not_driven_no_yes() -> None:
    page = table([made("one", A="fail", C="unsupported"), made("two", B="varies")], ["one", "two"])
    assert rows(page, "`A`")[0][2:] == ["**fail**", "-"]
    assert rows(page, "`B`")[0][2:] == ["-", "differs"]
    assert rows(page, "`C`")[0][2:] == ["unsupported", "-"]
    assert rows(page, "`Tmkdir`")[0][1:] == ["-", "-"]


def test_every_row_has_a_cell_for_every_implementation() -> None:
    page = table([made("one", A="known"), made("two", A="error"), made("three")], ["one", "two", "three"])
    for line in page.splitlines():
        if line.startswith("| `"):
            assert line.count(" | ") in (3, 4), line


def test_a_case_that_failed_once_is_not_hidden_by_what_was_not_driven() -> None:
    record = run(case("A", "undrivable", mount="cache=loose"), case("A", "fail", mount="cache=none"))
    ((*_, cell),) = rows(table([record], ["one"]), "`A`")
    assert cell == "**fail**"


def test_every_cell_leads_to_its_evidence(tmp_path: Path) -> None:
    runs = [kept(tmp_path, name, made(name, A="known", B="varies")) for name in ("one", "two")]
    pages = tmp_path / "docs" / "compatibility"
    words = [*map(str, runs), "--evidence", str(pages), "--results", str(tmp_path)]
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    links = re.findall(r"\[[^\]]*\]\((compatibility/(\w+)\.md)#?([\w-]*)\)", done.output)
    assert {name for _, name, _ in links} == {"one", "two"}
    rows = [line.split(" | ") for line in done.output.splitlines() if line.startswith(("| `", "| vfs"))]
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if re.search("yes|holds|fails|differs| of ", cell) and "](" not in cell]
    for _, name, place in links:
        text = (pages / f"{name}.md").read_text()
        assert not place or f'id="{place}"' in text, place
    text = (pages / "one.md").read_text()
    assert "- known " in text
    assert "of the client: broken <https://example.org/1>" in text
    digest = hashlib.sha256((runs[0] / "record.json").read_bytes()).hexdigest()
    assert digest in text
