"""SOAK: what a soak run's report.json says, as lines of the ticket. Read as data: the soak itself is not needed."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from conformance.errors import UsageError
from conformance.evidence.overview import count, duration
from conformance.reports.ticket.layout import Section, labelled, sentence
from guests.host.files import content, opened

_SCHEMA = 2
_FEW = 4
_MEASURED = 4
_HOURLY = re.compile(r"(?: descriptors| threads|) an hour")
_STEADY = re.compile(r" \(99 %: [+-]0\.00 to [+-]0\.00\)")
"""The interval of what did not change at all."""


def soak(run_dir: Path, target: str, *, whole: bool) -> Section:
    """The section; `whole` includes the reason of every open question. `target` is the run's, with its version.

    Raises UsageError if `run_dir` holds no report of a soak run."""
    path = run_dir / "report.json"
    try:
        data = json.loads(content(path))
        if not isinstance(data, dict):
            raise ValueError("no object")
    except FileNotFoundError:
        raise UsageError(f"no soak report {path}: `assay9 soak report {run_dir}` makes it") from None
    except (OSError, ValueError, RecursionError):
        raise UsageError(f"{path} is not a soak report: `assay9 soak report {run_dir}` writes it again") from None
    if data.get("schema", 0) > _SCHEMA:
        raise UsageError(f"{path} has schema {data['schema']}, this assay9 reads up to {_SCHEMA}: use a newer one")
    try:
        return Section("SOAK", _lines(run_dir, data, target, whole), least=13)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UsageError(f"{path} is damaged: `assay9 soak report {run_dir}` writes it again") from None


def _lines(run_dir: Path, data: dict[str, Any], target: str, whole: bool) -> list[str]:
    judgements: list[dict[str, Any]] = data["judgements"]
    by = {verdict: [j for j in judgements if j["verdict"] == verdict] for verdict in ("fail", "unknown", "pass")}
    loaded = sum(
        float(i["seconds"]) for i in data.get("iterations", []) if i.get("outcome") in ("pass", "fail", "error")
    )
    jobs = max(1, len(data["work"]))
    machines: list[dict[str, Any]] = data.get("machines", [])
    lines = labelled("run", f"{data['run']}: {_verdict(data['verdict'], len(by['unknown']), len(judgements))}")
    of_target = sentence([data["plan"]["target"], str(data["environment"].get("target_version", ""))])
    if of_target != target or whole:
        lines += labelled("target", of_target)
    on = f" on {count(len(machines), 'machine')} together" if machines else ""
    lines += labelled(
        "load",
        f"{duration(loaded / jobs)} of load in each of {count(jobs, 'workload')}{on}, set-up not counted",
    )
    if machines:
        said = Counter(str(m["verdict"]) for m in machines)
        lines += labelled("machines", sentence(f"{number} {verdict}" for verdict, number in sorted(said.items())))
    works = []
    for work in data["work"]:
        counts = sentence(f"{number} {outcome}" for outcome, number in sorted(work["counts"].items()))
        units = f", {work['ops']:,.0f} units of work" if work.get("ops") else ""
        works.append(f"{work['workload']}: {counts or 'none ended'}{units}")
    lines += labelled("work", "; ".join(works))
    injected = data.get("faults") or data.get("disturbances", [])  # codespell:ignore - the name in schema 1
    faults = sorted({d["name"] for d in injected})
    lines += labelled("faults", sentence(faults) or "none injected")
    for judgement in [*by["fail"], *(by["unknown"] if whole else [])]:
        what = "FAIL" if judgement["verdict"] == "fail" else "open"
        lines += labelled(what, f"{judgement['name']}: {judgement['reason']}")
    if not whole:
        lines += labelled("open", _together(_names(by["unknown"], bool(machines))))
    measured = [j for j in by["pass"] if j.get("figures") and not str(j["name"]).startswith("iterations")]
    if not whole:
        measured = [j for j in measured if not str(j["name"]).endswith(("of the runner", "of the guest"))]
    if machines:
        measured = []
    if whole:
        for judgement in measured:
            lines += labelled("measured", f"{str(judgement['name']).removeprefix('leak: ')}: {judgement['reason']}")
    else:
        lines += labelled("measured", _figures(measured[:_MEASURED]))
    if whole:
        lines += labelled("hold", sentence(_names(by["pass"], bool(machines))))
    journal = next((file for file in (run_dir / "journal.sqlite", run_dir / "journal.db") if file.exists()), None)
    if journal is not None:
        with opened(journal) as file:
            lines += labelled("journal", hashlib.file_digest(file, "sha256").hexdigest())
    for machine in machines[:_FEW]:
        lines += labelled("journal", f"{machine['journal_sha256']} ({machine['host'] or machine['run']})")
    if len(machines) > _FEW:
        lines += labelled("", f"the journals of {len(machines) - _FEW} more machines: see report.json there")
    return lines


def _figures(judgements: list[dict[str, Any]]) -> str:
    """`device: memory +0.3 MB/h (99 %: -0.4 to +1.2), threads +0.0/h`: the figures of a thing together."""
    found: dict[str, list[str]] = {}
    for judgement in judgements:
        figure = str(judgement["reason"]).rpartition("; ")[2].partition(", level ")[0]
        figure = _STEADY.sub("", _HOURLY.sub("/h", figure))
        named = str(judgement["name"]).removeprefix("leak: ").removeprefix("stall: ")
        what, _, of = named.partition(" of the ")
        found.setdefault(of or what, []).append(f"{what} {figure}" if of else figure)
    return sentence((f"{of}: {sentence(figures)}" for of, figures in found.items()), "; ")


def _together(names: list[str]) -> str:
    """`slowdown: iterations of tree, latency of stat; leak: memory`: the first few, each kind once."""
    kinds: dict[str, list[str]] = {}
    for name in names[:_FEW]:
        kind, colon, what = name.partition(": ")
        kinds.setdefault(kind if colon else "", []).append(what if colon else name)
    said = sentence((f"{kind}: {sentence(what)}" if kind else sentence(what) for kind, what in kinds.items()), "; ")
    return said + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")


def _names(judgements: list[dict[str, Any]], machines: bool) -> list[str]:
    """The names of judgements; with several machines each name once, with the number of machines."""
    if not machines:
        return [str(j["name"]) for j in judgements]
    seen = Counter(str(j["name"]).partition(": ")[2] for j in judgements)
    return [f"{name} on {number}" for name, number in seen.items()]


def _verdict(verdict: str, unknown: int, total: int) -> str:
    if verdict == "fail":
        return "FAIL"
    if verdict == "pass" and not unknown:
        return "PASS"
    what = "nothing wrong was seen" if verdict == "pass" else "no verdict"
    return f"{what}, {unknown} of {total} questions open"
