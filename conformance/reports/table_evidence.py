"""The evidence for the compatibility page: a page for each run, with an anchor for each cell.

It is small enough to be kept beside that page: passing cases by id, others with what was seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from conformance.evidence.models import CaseResult, Environment, Record
from conformance.evidence.overview import count, overview, visible
from conformance.gating.baseline import held
from conformance.reports import crossed

_SHOWN = 3
"""Results of a case that does not hold, over its parameters and mounts."""
_LONGEST = 300


def anchor(*words: str) -> str:
    """The name that a cell links to."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


def suite_of(environment: Environment) -> str:
    """The suite's commit, and whether it was changed."""
    commit = environment.assay9_commit
    changed = " with local changes" if commit.endswith("-dirty") else ""
    return f"{commit.removesuffix('-dirty')[:12] or environment.assay9_version}{changed}"


def evidence_page(record: Record, name: str, sha256: str) -> str:
    """The page of one run. `sha256` is that of its record."""
    e = record.environment
    lines = [f"# Evidence: {_plain(name)}", "", f"{_plain(overview(record).sentence)}.", ""]
    facts = {
        "version": e.target_version or e.target_title,
        "guest": f"{e.guest_image} Linux {e.guest_kernel}".strip() if e.guest_kernel else "none",
        "run": f"{e.started:%Y-%m-%d %H:%M} UTC, suite {suite_of(e)}",
        "record": f"record.json, SHA-256 {sha256}",
    }
    lines += [f"- {what}: {_plain(said)}" for what, said in facts.items()]
    lines += [f"- command: `{visible(e.command)}`" if e.command else "", "", "## Requests of 9P2000.L", ""]
    for message in crossed.messages(record.results):
        need = f"needed by {_ids(message.demanded)}" if message.demanded else "needed by no case"
        seen = f"seen {message.times:,} times in {count(message.cases, 'case')}; {need}"
        lines += [f'<a id="{anchor("request", message.name)}"></a>`{message.name}`: {seen}', ""]
    ordered = sorted(record.results, key=lambda r: (r.layer, r.family, r.case_id))
    for (layer, family), of_family in groupby(ordered, key=lambda r: (r.layer, r.family)):
        lines += [f'<a id="{anchor(layer, family)}"></a>', "", f"## {layer}/{family}", ""]
        lines += _family(list(of_family))
    return "\n".join(lines).rstrip() + "\n"


def _family(results: Sequence[CaseResult]) -> Iterator[str]:
    holding = [r for r in results if held(r) == "pass"]
    if holding:
        yield f"{count(len(holding), 'case')} {'holds' if len(holding) == 1 else 'hold'}: {_ids(holding)}"
        yield ""
    others = [r for r in results if held(r) != "pass"]
    for case, of_case in groupby(others, key=lambda r: r.case_id):
        found = list(of_case)
        yield f'<a id="{anchor(case)}"></a>**{case}**: {_plain(found[0].requirement)}'
        yield ""
        for result in found[:_SHOWN]:
            yield _result(result)
        if len(found) > _SHOWN:
            yield f"- and {len(found) - _SHOWN} more"
        yield ""


def _result(result: CaseResult) -> str:
    where = f"{result.parameters} " if result.parameters else ""
    where += f"on {result.mount}" if result.mount else ""
    said = [f"{held(result)} {where}".strip(), _plain(result.reason)]
    if result.known is not None:
        owner = f"declared, of the {result.known.owner}" if result.known.owner else "declared"
        said.append(f"{owner}: {_plain(result.known.reason)} {_link(result.known.link)}".strip())
    if result.message_counts:
        crossing = ", ".join(f"{name} {number}" for name, number in sorted(result.message_counts.items()))
        said.append(f"crossed: {crossing}")
    return f"- {'; '.join(filter(None, said))}"


def _ids(results: Sequence[CaseResult]) -> str:
    """Each case once, with the number of its results if there are several."""
    numbers: dict[str, int] = {}
    for result in results:
        numbers[result.case_id] = numbers.get(result.case_id, 0) + 1
    return ", ".join(f"{case} ({number})" if number > 1 else case for case, number in numbers.items())


def _link(address: str) -> str:
    return f"<{address}>" if re.fullmatch(r"https://[^\s<>]+", address) else ""


def _plain(text: str) -> str:
    """Text of a record, escaped for Markdown."""
    text = visible(" ".join(text.split()))
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return "".join(f"\\{c}" if c in "\\*_`[]<>#|&" else c for c in text)
