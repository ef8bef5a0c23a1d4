"""The page as a reader sees it in Chromium: filters, an open case, dark mode, on a phone, on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from conformance.evidence.models import CaseResult, KnownFailure, SeenFinding
from conformance.evidence.overview import standing, tally
from conformance.reports.html import write_html
from tests.browser import CHROMIUM, Page, browser
from tests.evidence import sample

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: ./setup.sh --tests installs it")
CASES = 300
RECORD = sample.record(CASES)
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SHOWN = "[...document.querySelectorAll('.case')].filter((c) => !c.hidden).length"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("page") / "report.html"
    write_html(RECORD, file)
    return file.as_uri()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, address: str) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def failing() -> CaseResult:
    return next(r for r in RECORD.results if standing(r) == "fail" and r.comparisons)


def test_a_reader_filters_and_opens_a_failing_case(page: Page, address: str, tmp_path: Path) -> None:
    page.size(1280, 900)
    page.open(address)
    assert page.of(SHOWN) == CASES
    page.of("document.querySelector('input[name=verdict][value=fail]').click()")
    fails = sum(standing(r) == "fail" for r in RECORD.results)
    assert page.of(SHOWN) == fails and page.of("document.getElementById('shown').textContent").startswith(f"{fails} of")
    page.of("document.getElementById('reset').click()")
    assert page.of(SHOWN) == CASES
    one = failing()
    page.open(f"{address}#{one.id}")  # the id alone, as in a ticket
    assert page.of(
        "new Promise((done) => setInterval(() => document.querySelector('.case[open] .calls') && done(1), 20))"
    )
    opened = "document.querySelector('.case[open]')"
    assert page.of(f"{opened}.querySelector('.id').textContent") == one.id
    assert page.of(f"{opened}.querySelectorAll('.calls > tbody > tr:not(.looks)').length") == len(one.calls)
    heads = page.of(f"[...{opened}.querySelectorAll('.fields th[scope=col]')].slice(0, 3).map((h) => h.textContent)")
    assert heads == ["field", "inside", "outside"], "a stat stands open, both sides beside each other"
    page.picture(tmp_path / "case.png")
    assert (tmp_path / "case.png").stat().st_size > 20_000, "not an empty page"


@pytest.mark.parametrize("spelt", ["OPEN-777[5000-replace] on cache=none", "OPEN-777[5000-replace]", "OPEN-777"])
def test_a_case_opens_by_its_id_as_reports_write_it(page: Page, tmp_path: Path, spelt: str) -> None:
    one = next(r for r in RECORD.results if r.mount == "cache=none" and r.calls)
    named = one.model_copy(update={"id": "OPEN-777[5000-replace]", "case_id": "OPEN-777"})
    write_html(RECORD.model_copy(update={"results": [*RECORD.results[:20], named]}), tmp_path / "report.html")
    page.open(f"{(tmp_path / 'report.html').as_uri()}#{quote(spelt)}")
    assert page.of(
        "new Promise((done) => setInterval(() => document.querySelector('.case[open] .calls') && done(1), 20))"
    )
    assert page.of("document.querySelector('.case[open]').id") == "OPEN-777_5000-replace~cache_none"


def test_the_matrix_has_what_crossed_in_each_case(page: Page, address: str, tmp_path: Path) -> None:
    page.size(1280, 900)
    page.open(address)
    rows = "[...document.querySelectorAll('.matrix .one')].filter((row) => !row.hidden)"
    assert page.of(f"{rows}.length") == 0
    page.of("document.getElementById('unfold').click()")
    families = dict.fromkeys((r.layer, r.family) for r in RECORD.results)
    shown = [r for family in families for r in RECORD.results if (r.layer, r.family) == family]
    assert all(any(r.message_counts for r in shown if (r.layer, r.family) == family) for family in families)
    assert page.of(f"new Promise((done) => setInterval(() => {rows}.length === {len(shown)} && done(1), 20))")
    heads = page.of("[...document.querySelectorAll('.matrix thead span')].map((head) => head.textContent)")
    seen = page.of(f"{rows}.map((row) => [...row.cells].map((cell) => [cell.textContent, cell.className]))")
    for result, ((name, _), *cells) in zip(shown, seen, strict=True):
        assert name == f"{result.id} {result.mount}"
        crossed = {head: int(text) for head, (text, _) in zip(heads, cells, strict=True) if text not in "·0"}
        assert crossed == result.message_counts
        needed = {head: how for head, (_, how) in zip(heads, cells, strict=True) if how}
        assert needed == {head: "needed" if head in crossed else "needed absent" for head in result.covers}
    page.of("document.getElementById('unfold').click()")
    assert page.of(f"{rows}.length") == 0
    page.of("document.querySelector('.matrix .fold').click()")
    assert page.of(f"new Promise((done) => setInterval(() => {rows}.length && done(1), 20))")
    page.picture(tmp_path / "matrix.png")


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_no_column_is_cut_at_any_width(page: Page, address: str, width: int) -> None:
    page.size(width, 900)
    page.open(f"{address}#{failing().id}")
    assert page.of(
        "new Promise((done) => setInterval(() => document.querySelector('.case[open] .calls') && done(1), 20))"
    )
    assert page.of(WIDER) <= 0


def test_a_dark_page_has_light_letters(page: Page, address: str) -> None:
    page.dark()
    page.open(address)
    colours = "const s = getComputedStyle(document.body); [s.color, s.backgroundColor]"
    ink, paper = (sum(map(int, text[4:-1].split(","))) for text in page.of(colours))
    page.call("Emulation.setEmulatedMedia", features=[])
    assert paper < 120
    assert ink > 500


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page like that of a whole QEMU run: 84 families, 46 known failures of one case each, all twenty times."""
    made = sample.record(1500)
    results = []
    for number, result in enumerate(made.results):
        changed: dict[str, object] = {"layer": "vfs", "family": f"family_number_{number % 84}"}
        if number < 46 * 20:
            case, parameters = f"KNOWN-{number % 46:03}", f"parameters {number}"
            changed |= {"id": f"{case}[{parameters}]", "case_id": case, "parameters": parameters}
            entry = KnownFailure(
                reason=f"operation {number % 46} goes by the path that the fid was opened by: ENOENT when the name is "
                "gone, and another file of that name is cut instead (fixed in 10.1: 9pfs: Introduce ftruncate file op)",
                link="https://gitlab.com/qemu-project/qemu/-/issues/103",
                owner="device" if number % 5 else "client",
            )
            finding = SeenFinding(code="errno", text="errno differs", known=entry)
            changed |= {"verdict": "known", "findings": [finding], "known": entry}
        elif result.verdict == "undrivable":
            changed |= {"reason": f"the guest's kernel refuses {'version=9p2000.L,msize=131072,' * 4}"}
        results.append(result.model_copy(update=changed))
    file = tmp_path_factory.mktemp("large") / "report.html"
    write_html(made.model_copy(update={"results": results, "counts": tally(results), "selected": len(results)}), file)
    return file.as_uri()


@pytest.mark.parametrize("width", [390, 1280])
def test_no_list_of_a_case_many_times_is_cut(page: Page, large: str, width: int) -> None:
    page.size(width, 900)
    page.open(large)
    assert page.of(WIDER) <= 0


def test_no_column_is_cut_on_a_phone(page: Page, large: str) -> None:
    page.size(390, 844)
    page.open(large)
    cells = "[...document.querySelectorAll('.families th, .families td, .rules th, .rules td, .filter select')]"
    assert page.of(f"{cells}.filter((e) => e.getBoundingClientRect().right > 391).map((e) => e.textContent)") == []


def test_it_prints_on_ten_sheets(page: Page, large: str) -> None:
    page.size(1280, 900)
    page.open(large)
    assert page.sheets() <= 10


def test_no_column_is_cut_on_paper(page: Page, large: str) -> None:
    """A4 without its margins is 703 pixels wide."""
    page.size(703, 1000)
    page.call("Emulation.setEmulatedMedia", media="print")
    page.open(large)
    wider = page.of(
        "[...document.querySelectorAll('table, article, dl, h1')].filter((e) => e.getBoundingClientRect().right > 704)"
        ".map((e) => e.className || e.tagName)"
    )
    tall = page.of("document.querySelector('.families').getBoundingClientRect().height")
    page.call("Emulation.setEmulatedMedia", media="")
    assert wider == []
    assert tall < 1031, "the counts of 84 families are on one sheet"
