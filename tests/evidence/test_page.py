"""The page's own tables: the requests that crossed, fields with their rules; dark mode and narrow screens."""

from __future__ import annotations

from pathlib import Path

from conformance.comparison import Comparison, FieldComparison
from conformance.reports import crossed
from conformance.reports.html import html
from tests.evidence import sample
from tests.evidence.test_baseline import case, run

CSS = Path(crossed.__file__).parent / "templates" / "report.css"


def test_a_request_is_counted_where_it_crossed_and_missed_where_it_had_to() -> None:
    sent = case("A", "pass", covers=["Tlopen"], message_counts={"Tlopen": 3, "Twalk": 1}, covers_ok=True)
    swallowed = case("B", "undrivable", covers=["Tlopen"], message_counts={}, covers_ok=False)
    untraced = case("C", "pass", covers=["Tlopen"], message_counts={}, covers_ok=None)
    found = {message.name: message for message in crossed.messages([sent, swallowed, untraced])}
    assert (found["Tlopen"].times, found["Tlopen"].cases) == (3, 1)
    assert [r.id for r in found["Tlopen"].demanded] == ["A", "B", "C"]
    assert [r.id for r in found["Tlopen"].missing] == ["B"]
    assert found["Tmkdir"].times == 0, "a request that nobody sent has its row"


def test_each_field_is_counted_by_its_rule_with_the_reason() -> None:
    fields = [
        FieldComparison("st_size", "1", "1", "exact", True),
        FieldComparison("st_dev", "3", "4", "informational", False, "a number of its own"),
    ]
    results = [case("A", "pass", comparisons=[Comparison(1, "stat", "fred", fields, True)] * 2)]
    size, device = crossed.fields(results)
    assert (size.name, size.rule, size.times, size.equal, size.let_pass) == ("st_size", "exact", 2, 2, 0)
    assert (device.let_pass, device.reasons.most_common(1)) == (2, [("a number of its own", 2)])


def test_the_page_has_both_and_says_what_was_tested() -> None:
    page = html(sample.record(40))
    for said in ('id="messages"', 'id="rules"', "change under test", "1493008b" * 8, "zfs tank"):
        assert said in page, said
    assert html(run().model_copy(update={"results": []})).count('id="rules"') == 0


def test_the_page_has_a_dark_dress_and_hides_no_column_on_a_phone() -> None:
    css = CSS.read_text()
    root, rest = css.split("}\n", 1)
    dark = rest.split("prefers-color-scheme: dark", 1)[1].split("}\n", 1)[0]
    names = {
        line.split(":")[0].strip() for line in root.replace(";", "\n").splitlines() if line.strip().startswith("--")
    }
    assert {name for name in names if name != "--mono"} == {
        part.split(":")[0].strip() for part in dark.replace(";", "\n").splitlines() if part.strip().startswith("--")
    }
    narrow = rest[rest.index("@media (max-width") : rest.index("@media print")]
    assert "display: none" not in narrow
