"""Plays random sequences of calls on a share and on the model; shrinks those that the model does not allow.

Successive calls at one place go together, and with them those of other processes of the guest. After each such batch
its place is surveyed, and before the other side calls, both are: every path, attribute and byte must be the model's. A
deviation that a profile declares is kept as a finding of the case. After a wrong result the sequence continues, so that
it hides nothing; once the tree differs from the model's, later results are unpredictable, and the sequence ends.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from errno import ENOTEMPTY
from functools import lru_cache, partial
from typing import Any

from conformance.checks import judged
from conformance.errors import Finding
from conformance.model import guided
from conformance.model.filesystem import FileSystem
from conformance.model.generate import XATTR_CALLS
from conformance.model.shrink import shortest
from conformance.model.step import Allowed, Step, Where, listing
from conformance.model.survey import Difference, Survey, differences, expected_survey
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage

_SHRINKING = 150
"""Sequences played at most to find a shorter one that fails: each costs some round trips."""
_AHEAD = 6
"""Sequences that are sent together, where that is possible."""
_ENDED = ("hung", "killed", "died")
"""Codes of findings after which no more is played."""
_DIRECTORY = "sequence"
"""The directory of the case in which each sequence begins again, for as long as it can be removed."""


Outcomes = list[list[Any]]
"""Of each call its value and the name of its errno, or ""."""
_Ahead = tuple[str, Callable[[], tuple[Outcomes, Survey]] | None]
"""The directory in which a sequence is played, and what waits for its outcomes."""


@dataclass(slots=True)
class _Made:
    """Calls that one place has made, how they ended, and what a survey showed afterwards."""

    steps: Sequence[Step]
    vantage: Vantage
    outcomes: Outcomes
    seen: Survey
    settled: bool = False
    """Whether nothing has been called since, so that the other side must show the same."""


class Player:
    """Plays sequences on one share."""

    def __init__(self, share: Share, *, outside: bool, together: bool = False) -> None:
        """`outside`: the host inspects the tree, and changes it, too; not if it shows other modes and links.
        `together`: two processes of the guest take part, which also lock and map.
        """
        self._share, self._declares = share, share.mounted.declares
        self._xattrs = "xattr" in share.mounted.features
        self._without = frozenset() if self._xattrs else XATTR_CALLS
        if share.mount.cache == "mmap":
            # There each name of a file has an inode of its own (v9fs_get_new_inode_from_fid), so that size and content
            # differ until they are written back; vfs/link has cases for it.
            self._without |= {"link"}
        self._together = together
        self._spawned: dict[str, Vantage] = {}
        """Further processes of the guest: the second one, and the one that looks."""
        self._outside = outside and share.mounted.sides == "both" and share.host_links
        self._directory, self._numbers = _DIRECTORY, itertools.count(2)
        self._ahead: dict[tuple[Step, ...], _Ahead] = {}
        """Sequences that have been sent to the guest in whole, and what waits for their outcomes."""
        self.deviations: dict[tuple[str, str, str, str], Finding] = {}
        """Declared findings, each once."""
        self.met: Counter[tuple[str, str, str]] = Counter()
        """Calls that were judged: operation, state of what it is about, and `success` or the errno it ended with."""

    def search(self, number: int, *, examples: int, steps: int) -> Finding | None:
        """Play `examples` random sequences of at most `steps` calls; report a finding with the shortest one that fails.

        `number` seeds the generator. Raises anything but a finding, and a hang or a death at once.
        """
        sequences = _generated(number, examples, steps, self._outside, self._without, self._together)
        for at, played in enumerate(sequences):
            if not self._outside and not self._together and at % _AHEAD == 0:
                # No one else acts: each sequence is one request, and those of several go in one round trip.
                self._ahead = {one: self._sent_ahead(one) for one in sequences[at : at + _AHEAD] if one}
            if (found := self._failure(played)) is not None:
                return self._shortened(played, found)
        return None

    def _sent_ahead(self, steps: Sequence[Step]) -> _Ahead:
        return self._directory, self._sent(self._share.inside, steps, fresh=True)

    def _shortened(self, played: Sequence[Step], found: Finding) -> Finding:
        """The finding of the shortest sequence that fails like `played`, which ended with `found`."""
        self._ahead.clear()
        short = shortest(played, lambda steps: self._failure(steps) is not None, _SHRINKING)
        again = self._failure(short)
        if again is None:
            return Finding(f"once, and not when it was played again: {found}", found.code, found.values)
        return again

    def _failure(self, steps: Sequence[Step]) -> Finding | None:
        """The finding of playing them; None if all results are allowed. Raises Finding for a hang or a death."""
        try:
            self.play(steps)
        except Finding as finding:
            if finding.code in _ENDED:
                raise
            return finding
        return None

    def play(self, steps: Sequence[Step]) -> None:
        """Play one sequence in an empty directory. Raises Finding for the first outcome that is not allowed.

        It is then played again with a survey after each call: a difference is charged to the call that caused it, and
        is known if a profile declares it for that call.
        """
        try:
            self._played(steps, each=False)
        except Finding as found:
            if found.code in _ENDED or self._played(steps, each=True):
                raise found from None  # with a survey after each call nothing differs

    def _played(self, steps: Sequence[Step], *, each: bool) -> bool:
        """Whether all was as in the model, except for declared failures. False if the sequence ended early.

        `each`: survey after each call, not only when the place changes. Raises Finding.
        """
        model = FileSystem()
        followed: list[Step] = []
        state = ""
        # Files that the guest still holds open keep their names in its cache: close them before the host acts.
        fresh = not steps or steps[0].where == "inside"
        if "second" in self._spawned:
            self._spawned["second"].close_slots()
        if not fresh:
            self._made_afresh(self._share.inside, [])
        for made in self._all_made(steps, fresh=fresh, each=each):
            for step, (value, error) in zip(made.steps, made.outcomes, strict=True):
                if not model.applies(step):
                    continue  # it uses a slot that a declared failure has left empty
                judged()
                allowed = model.step(step)
                followed.append(step)
                state = " ".join(allowed.state)
                self.met[step.op, state, error or "success"] += 1
                if allowed.holds(value, error):
                    continue
                finding = _outcome(step, value, error, allowed, followed, steps)
                if not self._declared(finding):
                    raise finding
                if not error:
                    return False  # later results are unpredictable
                followed.pop()
                model = _replayed(followed)
            if not self._same(model, made, state, followed, steps):
                return False
        return True

    def _all_made(self, steps: Sequence[Step], *, fresh: bool, each: bool) -> Iterator[_Made]:
        """Make the calls in turn: successive ones of one place together, those of several processes of the guest in one
        round trip. `each`: one by one.
        """
        batches = (
            [[one] for one in steps] if each else [list(b) for _, b in itertools.groupby(steps, lambda s: s.where)]
        )
        waits = each and self._outside  # the host looks after each call
        stretches = [[one] for one in batches] if waits else _stretches(batches, alone=fresh)
        for stretch in stretches:
            sent: list[tuple[list[Step], Vantage, Callable[[], tuple[Outcomes, Survey]]]] = []
            for part in stretch:
                vantage = self._place(part[0].where)
                result = (
                    partial(self._made_afresh, vantage, part, ahead=not each) if fresh else self._sent(vantage, part)
                )
                sent.append((part, vantage, result))
                fresh = False
            made = [_Made(part, vantage, *result()) for part, vantage, result in sent]
            made[-1].settled = True
            yield from made

    def _place(self, where: Where) -> Vantage:
        if where == "outside":
            return self._share.outside
        if where == "inside":
            return self._share.inside
        return self._process(where)

    def _process(self, name: str) -> Vantage:
        if name not in self._spawned:
            self._spawned[name] = self._share.inside.spawn(name)
        return self._spawned[name]

    def _made_afresh(self, vantage: Vantage, steps: Sequence[Step], *, ahead: bool = False) -> tuple[Outcomes, Survey]:
        """Make the calls in an empty directory: another one if the last cannot be removed.

        `ahead`: they are a whole sequence, which may have been sent.
        """
        directory, result = self._ahead.pop(tuple(steps), ("", None)) if ahead else ("", None)
        try:
            if result is not None and directory == self._directory:
                return result()
            return self._sent(vantage, steps, fresh=True)()
        except OSError as error:
            if error.errno != ENOTEMPTY:
                raise
            self._leave(vantage)
            return self._sent(vantage, steps, fresh=True)()

    def _sent(
        self, vantage: Vantage, steps: Sequence[Step], *, fresh: bool = False
    ) -> Callable[[], tuple[Outcomes, Survey]]:
        """Send the calls and a survey after them; what is returned waits for the outcomes."""
        calls = [[step.op, step.slot, list(step.operands)] for step in steps]
        look = not self._together or vantage is self._share.outside  # the survey releases the process's locks
        played = vantage.quietly_then.play(self._directory, calls, fresh=fresh, xattrs=self._xattrs, look=look)
        if look:
            return lambda: tuple(played.result())
        seen = self._process("looker").quietly_then.survey(self._directory, xattrs=self._xattrs)
        return lambda: (played.result()[0], seen.result())

    def _leave(self, vantage: Vantage) -> None:
        """Use another directory from now on: this one cannot be removed. Raises Finding if that is undeclared."""
        self._directory = f"{_DIRECTORY}-{next(self._numbers)}"
        text = "a directory of the sequence before cannot be removed, after all that it lists was: ENOTEMPTY"
        values = {"call": "rmtree", "vantage": vantage.name, "seen": "ENOTEMPTY", "expected": "success"}
        finding = Finding(text, "errno", values)
        if not self._declared(finding):
            raise finding

    def _same(
        self,
        model: FileSystem,
        made: _Made,
        state: str,
        followed: Sequence[Step],
        steps: Sequence[Step],
    ) -> bool:
        """Whether both sides show the model's tree. Raises Finding if they do not and no profile declares that.

        `state`: the model's words for the last open file.
        """
        same = True
        expected = expected_survey(model, xattrs=self._xattrs)
        views = [(made.vantage.name, made.seen)]
        if self._outside and made.settled:
            other = self._share.inside if made.vantage is self._share.outside else self._share.outside
            views.append((other.name, other.quietly.survey(self._directory, xattrs=self._xattrs)))
        for name, view in views:
            judged()
            for difference in differences(view, expected):
                about = " ".join(model.state_of(difference.path)) if difference.field == "error" else state
                finding = _difference(name, difference, about, followed, steps)
                if not self._declared(finding):
                    raise finding
                same &= difference.field == "error"  # the file exists, but lstat(2) by this name failed
        return same

    def _declared(self, finding: Finding) -> bool:
        if not self._declares(finding):
            return False
        values = finding.values
        key = (finding.code, values["call"], values["seen"], values["expected"])
        self.deviations.setdefault(key, finding)
        return True


@lru_cache(maxsize=8)
def _generated(
    number: int, examples: int, steps: int, outside: bool, without: frozenset[str], together: bool
) -> tuple[tuple[Step, ...], ...]:
    """The sequences of a seed, made once for the control file system and the share in each cache mode."""
    return tuple(guided.generated(number, examples, steps, outside=outside, without=without, together=together))


def _stretches(batches: list[list[Step]], *, alone: bool) -> list[list[list[Step]]]:
    """The batches that are sent together: those in the guest, up to the next of the host. `alone`: not the first."""
    first, rest = (batches[:1], batches[1:]) if alone else ([], batches)
    groups = itertools.groupby(enumerate(rest), lambda one: one[0] if one[1][0].where == "outside" else -1)
    return [*([first] if first else []), *([batch for _, batch in group] for _, group in groups)]


def _replayed(steps: Sequence[Step]) -> FileSystem:
    model = FileSystem()
    for step in steps:
        model.step(step)
    return model


def _outcome(
    step: Step, value: Any, error: str, allowed: Allowed, followed: Sequence[Step], steps: Sequence[Step]
) -> Finding:
    code = "value" if not error and allowed.succeeds else "errno"
    seen = error or f"success with {value!r:.80}"
    text = f"{step} ended with {seen}, allowed is {allowed}"
    values = {"call": step.op, "state": " ".join(allowed.state), "seen": seen, "expected": str(allowed)}
    return _finding(text, code, values, followed, steps)


def _difference(name: str, one: Difference, state: str, followed: Sequence[Step], steps: Sequence[Step]) -> Finding:
    code = {"exists": "exists", "content": "content", "error": "errno"}.get(one.field, f"field:{one.field}")
    text = f"{one.field} of {one.path!r} is {one.seen!r:.80} {name}, must be {one.expected!r:.80}"
    last = "look" if one.field == "error" else followed[-1].op if followed else ""
    values = {"call": last, "state": state, "vantage": name, "path": one.path}
    values |= {"seen": str(one.seen), "expected": str(one.expected)}
    return _finding(text, code, values, followed, steps)


def _finding(text: str, code: str, values: dict[str, str], followed: Sequence[Step], steps: Sequence[Step]) -> Finding:
    """A finding with the sequence up to there, and the whole of it as JSON."""
    said = "\n".join(listing(followed))
    return Finding(f"{text}, after\n{said}", code, {**values, "sequence": json.dumps([one.to_json() for one in steps])})
