"""A record in numbers: counts by family, and the sentence with which every report opens.

Rule of this module: reports differ only in form. Whatever they must agree on is computed here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from conformance.evidence.looked import Looks, looks
from conformance.evidence.models import CaseResult, KnownFailure, Record
from conformance.vocabulary import GRAVITY, Standing

MEANING: dict[Standing, str] = {
    "pass": "the requirement holds",
    "fail": "the requirement does not hold, and no profile declares that",
    "fixed": "declared as a known failure, and passes: remove the declaration",
    "unstable": "passed and failed in one run: never a pass",
    "error": "the suite or the infrastructure broke: neither pass nor fail",
    "known": "fails as a profile of the target declares",
    "varies": "differs where implementations legitimately do: recorded, never failed",
    "guest": "passes, and the guest's kernel decided alone: no server could have failed it",
    "unsupported": "the target declares the feature as unsupported, and refused it as declared",
    "undrivable": "this guest, transport or host cannot express the case",
}
STANDINGS = tuple(MEANING)
"""In the order in which reports list them."""
HELD: frozenset[Standing] = frozenset({"pass", "guest"})
"""Standings of cases whose requirement holds."""
JUDGED: frozenset[Standing] = frozenset({"pass", "fail", "fixed", "unstable", "known", "varies", "unsupported"})
"""Standings of cases that judged the target: with another target they could have ended otherwise."""
FEWEST_JUDGED = 0.05
"""A run in which a smaller share of the cases judged the target has no verdict."""
FEWEST_OF_EARLIER = 0.5
"""The same for the share of those cases that judged the target in an earlier run."""


OWNERS = {
    "device": "of the device",
    "server": "of the server",
    "client": "of the guest's client",
    "": "of the target",
}


_GRAVE = frozenset({"content", "escape", "changed", "died", "killed"})
"""Codes of findings in which data or another file is harmed, or something died."""


def in_order(owners: Iterable[str]) -> list[str]:
    """The owners, each once, as reports list them: the device, servers, the guest's client, then others."""
    found = dict.fromkeys(owners)
    return [*(owner for owner in OWNERS if owner in found), *(owner for owner in found if owner not in OWNERS)]


def grave(result: CaseResult) -> bool:
    """Whether data or another file was damaged, or a process died."""
    return any(finding.code.partition(":")[0] in _GRAVE for finding in result.findings)


def weight(results: Iterable[CaseResult]) -> tuple[int, bool]:
    """Sort key of failures, the gravest first: the worst severity, then whether damage was done."""
    listed = list(results)
    return min(GRAVITY[result.severity] for result in listed), not any(map(grave, listed))


def standing(result: CaseResult) -> Standing:
    """The verdict as reports count it.

    A failure where implementations may differ is counted separately, and so is a pass that no server could have failed.
    """
    if result.verdict == "fail" and result.severity == "varies":
        return "varies"
    if result.verdict == "pass" and result.decided_by == "guest":
        return "guest"
    return result.verdict


def tally(results: Iterable[CaseResult]) -> dict[Standing, int]:
    """The number of results of every standing: the only place where results are counted."""
    counts: dict[Standing, int] = dict.fromkeys(STANDINGS, 0)
    for result in results:
        counts[standing(result)] += 1
    return counts


def known_for(result: CaseResult) -> dict[str, str]:
    """The known failures of a case: a key for each code with the entry that declares it -> the same in words.

    The key identifies the defect by code, component, link and place; the wording of a reason may change.
    """
    found: dict[str, str] = {}
    for finding in result.findings:
        if (entry := finding.known) is not None:
            key = " ".join((finding.code, entry.component, entry.link, entry.where))
            found[key] = f"{finding.code} ({entry.component or 'profile'}: {entry.reason})"
    return found


@dataclass(frozen=True, slots=True)
class Overview:
    """A record sorted for people."""

    record: Record
    families: dict[tuple[str, str], dict[Standing, int]]
    """(layer, family) -> results by standing, in the order of the record."""
    counts: dict[Standing, int]
    by_standing: dict[Standing, list[CaseResult]]
    one_mount: bool
    """Whether all cases ran on one mount, so that naming it with each would be noise."""

    def __getitem__(self, standing: Standing) -> list[CaseResult]:
        return self.by_standing[standing]

    @property
    def judged(self) -> int:
        """Results that say something about the target: all but errors, undrivable cases, and cases that no server could
        have failed.
        """
        return sum(self.counts[s] for s in JUDGED)

    @property
    def not_run(self) -> int:
        """Cases that were selected but have no recorded result. They are also counted as errors."""
        return sum(not r.ran for r in self["error"])

    @property
    def status(self) -> int:
        """The gate's exit status, see `gate`."""
        if self.record.interrupted_by:
            return 130 if self.record.interrupted_by == "SIGINT" else 143
        if self.counts["fail"] or self.counts["fixed"] or self.counts["unstable"]:
            return 1
        return 3 if self.doubts else 0

    @property
    def doubts(self) -> list[str]:
        """Why the absence of failures proves nothing; empty when the run is conclusive."""
        found = []
        if errors := self.counts["error"] - self.not_run:
            found.append(f"{count(errors, 'case')} ended in error")
        if self.not_run:
            found.append(f"{count(self.not_run, 'case')} did not run")
        return found + self.doubts_of_run

    @property
    def doubts_of_run(self) -> list[str]:
        """The doubts that no single case shows."""
        record, found, earlier = self.record, [], self.record.earlier
        if not record.results:
            found.append("nothing ran")
        elif not self.judged:
            found.append("no case judged the target")
        elif not record.interrupted:
            if self.judged < FEWEST_JUDGED * len(record.results):
                found.append(f"only {count(self.judged, 'case')} judged the target")
            if earlier is not None and earlier.judged_now < FEWEST_OF_EARLIER * earlier.judged_then:
                then = count(earlier.judged_then, "case")
                found.append(f"only {earlier.judged_now:,} of {then} that judged the target in {earlier.run}")
        if record.troubles:
            found.append(count(len(record.troubles), "failure") + " of the infrastructure")
        if record.interrupted_by:
            found.append(f"the run was interrupted by {record.interrupted_by}")
        elif record.interrupted:
            found.append("the run did not finish")
        if record.damage:
            found.append("the record is damaged")
        return found

    @property
    def fewer(self) -> str:
        """One line on how many fewer cases judged the target than in an earlier run; empty if there is none."""
        earlier = self.record.earlier
        if earlier is None or earlier.judged_now >= earlier.judged_then:
            return ""
        both = f"of the {count(earlier.compared, 'case')} that both runs selected"
        numbers = f"{earlier.judged_now:,} now, {earlier.judged_then:,} then, {both}"
        return f"fewer cases judged the target than in {earlier.run}: {numbers}"

    @property
    def otherwise(self) -> str:
        """One line on known cases that now fail for another reason than in an earlier run; empty if there are none."""
        earlier = self.record.earlier
        if earlier is None or not earlier.known_otherwise:
            return ""
        cases = count(len(earlier.known_otherwise), "known case fails", "known cases fail")
        return f"{cases} for another reason than in {earlier.run}: {'; '.join(earlier.known_otherwise)}"

    @property
    def troubles(self) -> list[str]:
        """Failures of the infrastructure and unreadable entries, one line each, without repetition."""
        met: dict[str, list[str]] = {}
        for trouble in self.record.troubles:
            met.setdefault(trouble.text, []).append(trouble.worker)
        said = [f"{', '.join(dict.fromkeys(workers))}: {text}" for text, workers in met.items()]
        return said + self.record.damage

    def fewer_named(self, shown: int) -> str:
        """The same, with the names of so many cases that judged the target then and do not now."""
        names = self.record.earlier.no_longer if self.record.earlier is not None else []
        more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
        return f"{self.fewer}: {', '.join(names[:shown])}{more}" if self.fewer else ""

    @property
    def sentence(self) -> str:
        """The verdict in one sentence, without the target's name."""
        total = count(len(self.record.results), "case")
        judged = f"{self.judged:,} of {total} judged the target"
        doubts = ", ".join(self.doubts)
        wrong = []
        if self.counts["fail"]:
            wrong.append(count(self.counts["fail"], "unexpected failure"))
        if self.counts["fixed"]:
            wrong.append(count(self.counts["fixed"], "unexpected pass", "unexpected passes"))
        if self.counts["unstable"]:
            wrong.append(count(self.counts["unstable"], "unstable case"))
        if wrong:
            return f"{' and '.join(wrong)}; {judged}" + (f"; also, {doubts}" if doubts else "")
        if doubts:
            return f"no verdict: {doubts}" + (f"; {judged}" if self.judged else "")
        return f"nothing unexpected; {judged}"

    @property
    def effort(self) -> str:
        """How much was tested."""
        results = self.record.results
        calls = sum(len(r.calls) for r in results)
        comparisons = [c for r in results for c in r.comparisons]
        messages = sum(sum(r.message_counts.values()) for r in results)
        said = [f"{calls:,} calls made"]
        if comparisons:
            fields = sum(len(c.fields) for c in comparisons)
            said.append(f"{len(comparisons):,} comparisons inside against outside ({fields:,} fields)")
        if messages:
            said.append(f"{messages:,} 9P messages crossed")
        looked = self.looks.sentence
        return ", ".join(said) + (f"; {looked}" if looked else "")

    @property
    def looks(self) -> Looks:
        """How closely inside and outside were compared."""
        return looks(self.record.results)

    @property
    def decisions(self) -> str:
        """Who decided the passes, in one line; empty if the server decided all of them."""
        passed = self["pass"]
        informed = sum(r.decided_by == "informed" for r in passed)
        said = []
        if informed or self.counts["guest"] or self.record.environment.left_out:
            said.append(
                f"of {count(len(passed), 'pass', 'passes')} the device decided {len(passed) - informed:,}, "
                f"the guest's kernel {informed:,} on what the device answered"
            )
        if self.counts["guest"]:
            more = count(self.counts["guest"], "more pass was", "more passes were")
            said.append(f"{more} decided by the guest's kernel alone")
        if left_out := self.record.environment.left_out:
            said.append(f"{count(left_out, 'case')} of that kind did not run (--all runs them)")
        return "; ".join(said)

    def known_reasons(self) -> list[tuple[KnownFailure, list[CaseResult]]]:
        """The same, entries of one owner and reason together, the gravest first."""
        merged: dict[tuple[str, str], tuple[KnownFailure, dict[tuple[str, str], CaseResult]]] = {}
        for entry, results in self.known_entries():
            _, having = merged.setdefault((entry.owner, entry.reason), (entry, {}))
            having |= {result.key: result for result in results}
        found = [(entry, list(having.values())) for entry, having in merged.values()]
        return sorted(found, key=lambda one: (*weight(one[1]), -len(one[1])))

    def known_by_owner(self) -> list[tuple[str, list[tuple[KnownFailure, list[CaseResult]]]]]:
        """The same, those of the device first, then those of servers and of the guest's client: (whose, entries)."""
        entries = self.known_reasons()
        owners = in_order(entry.owner for entry, _ in entries)
        return [(OWNERS.get(owner, owner), [one for one in entries if one[0].owner == owner]) for owner in owners]

    @property
    def whose(self) -> str:
        """How many cases failed as declared, and by whose fault: `30 of the device, 12 of the guest's client`."""
        said = []
        for whose, entries in self.known_by_owner():
            results = {id(result) for _, having in entries for result in having}
            said.append(f"{len(results):,} {whose}")
        return ", ".join(said)

    def known_entries(self) -> list[tuple[KnownFailure, list[CaseResult]]]:
        """The profiles' entries that matched, each with its cases."""
        met: dict[str, tuple[KnownFailure, list[CaseResult]]] = {}
        for result in self["known"]:
            declared = [finding.known for finding in result.findings if finding.known is not None]
            for entry in declared or [result.known or KnownFailure(reason=result.reason)]:
                _, having = met.setdefault(entry.model_dump_json(), (entry, []))
                if result not in having[-1:]:
                    having.append(result)
        return list(met.values())

    def name(self, result: CaseResult) -> str:
        """The result's id, with its mount if there are several."""
        return result.id if self.one_mount or not result.mount else f"{result.id} on {result.mount}"


def overview(record: Record) -> Overview:
    """Sort and count a record."""
    families: dict[tuple[str, str], list[CaseResult]] = {}
    by_standing: dict[Standing, list[CaseResult]] = {s: [] for s in STANDINGS}
    for result in record.results:
        families.setdefault((result.layer, result.family), []).append(result)
        by_standing[standing(result)].append(result)
    counts = {family: tally(results) for family, results in families.items()}
    one_mount = len({r.mount for r in record.results}) < 2
    return Overview(record, counts, tally(record.results), by_standing, one_mount)


def by_reason(results: Iterable[CaseResult]) -> list[tuple[str, list[CaseResult]]]:
    """Results that give the same reason together, the most frequent reason first."""
    grouped: dict[str, list[CaseResult]] = defaultdict(list)
    for result in results:
        grouped[result.reason].append(result)
    return sorted(grouped.items(), key=lambda item: (-len(item[1]), item[0]))


def duration(seconds: float) -> str:
    """A duration for people: 0.8 s, 42 s, 4 min 12 s, 26 h 3 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def elapsed(record: Record) -> float | None:
    """The duration of the run by the wall clock; None if its end is unknown."""
    environment = record.environment
    if environment.ended is None:
        return None
    return (environment.ended - environment.started).total_seconds()


def visible(text: str, keep: str = "") -> str:
    """Text with control characters spelled out, so that no file name can drive a terminal or break XML.

    Characters of `keep` stay, e.g. the newlines of a traceback.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
