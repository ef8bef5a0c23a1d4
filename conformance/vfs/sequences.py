"""Plays random sequences of calls on a share and on the model; shrinks those that the model does not allow.

Successive calls at one place go in one round trip. After each such batch both sides are surveyed: every path, attribute
and byte must be the model's. A deviation that a profile declares is kept as a finding of the case. After a wrong result
the sequence continues, so that it hides nothing; once the tree differs from the model's, later results are
unpredictable, and the sequence ends.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from errno import ENOTEMPTY
from functools import lru_cache
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
_ENDED = ("hung", "killed", "died")
"""Codes of findings after which no more is played."""
_DIRECTORY = "sequence"
"""The directory of the case in which each sequence begins again, for as long as it can be removed."""


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
        self.deviations: dict[tuple[str, str, str, str], Finding] = {}
        """Declared findings, each once."""
        self.met: Counter[tuple[str, str, str]] = Counter()
        """Calls that were judged: operation, state of what it is about, and `success` or the errno it ended with."""

    def search(self, number: int, *, examples: int, steps: int) -> Finding | None:
        """Play `examples` random sequences of at most `steps` calls; report a finding with the shortest one that fails.

        `number` seeds the generator. Raises anything but a finding, and a hang or a death at once.
        """
        for played in _generated(number, examples, steps, self._outside, self._without, self._together):
            if (found := self._failure(played)) is not None:
                return self._shortened(played, found)
        return None

    def _shortened(self, played: Sequence[Step], found: Finding) -> Finding:
        """The finding of the shortest sequence that fails like `played`, which ended with `found`."""
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
            self._made(self._share.inside, [], fresh=True)
        batches = [list(batch) for _, batch in itertools.groupby(steps, key=lambda step: step.where)]
        for part in [[step] for step in steps] if each else batches:
            where = part[0].where
            vantage = self._place(where)
            outcomes, seen = self._made(vantage, part, fresh=fresh)
            fresh = False
            for step, (value, error) in zip(part, outcomes, strict=True):
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
            if not self._same(model, vantage, seen, state, followed, steps):
                return False
        return True

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

    def _made(self, vantage: Vantage, steps: Sequence[Step], *, fresh: bool) -> tuple[list[list[Any]], Survey]:
        calls = [[step.op, step.slot, list(step.operands)] for step in steps]
        look = not self._together or vantage is self._share.outside  # the survey releases the process's locks
        try:
            outcomes, seen = vantage.quietly.play(self._directory, calls, fresh=fresh, xattrs=self._xattrs, look=look)
        except OSError as error:
            if not fresh or error.errno != ENOTEMPTY:
                raise
            self._leave(vantage)
            outcomes, seen = vantage.quietly.play(self._directory, calls, fresh=True, xattrs=self._xattrs, look=look)
        if not look:
            seen = self._process("looker").quietly.survey(self._directory, xattrs=self._xattrs)
        return outcomes, seen

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
        vantage: Vantage,
        seen: Survey,
        state: str,
        followed: Sequence[Step],
        steps: Sequence[Step],
    ) -> bool:
        """Whether both sides show the model's tree. Raises Finding if they do not and no profile declares that.

        `seen` is the survey of the side that made the last calls, `state` the model's words for the last open file.
        """
        same = True
        expected = expected_survey(model, xattrs=self._xattrs)
        views = [(vantage.name, seen)]
        if self._outside:
            other = self._share.inside if vantage is self._share.outside else self._share.outside
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
