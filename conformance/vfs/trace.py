"""The 9P messages that crossed while a case ran, from the guest's own tracepoints (events/9p of Linux).

`9p_client_req` names each request and `9p_client_res` its reply with the errno that the server answered; both are
emitted by net/9p/client.c for every transport. The agent brackets the suite's own comparisons with trace marks, so that
they do not count as the case's traffic, and names each call of the case before it makes it, so that messages can be
assigned to the call that caused them. What the guest sends later (pages written back) belongs to no call.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace

from conformance.vocabulary import errno_name

_REQUEST = re.compile(r"9p_client_req: client \S+ request (?:P9_)?(T\w+) tag\s+(\d+)")
_REPLY = re.compile(r"9p_client_res: client \S+ response (?:P9_)?([TR]\w+) tag\s+(\d+) err (-?\d+)")
_MARK = re.compile(r"tracing_mark_write: assay9 (begin|end|call (\d+))")
_PHASE = re.compile(r"tracing_mark_write: assay9 phase (\w+)")
_TASK = re.compile(r"-(\d+)\s+\[\d+\]")
_SHOWN = 400
_SHOWN_OF_A_CALL = 40


@dataclass(frozen=True, slots=True)
class Crossed:
    """The messages of one case: in order (the first 400), counted by type, and how many were lost."""

    messages: tuple[str, ...]
    counts: dict[str, int]
    lost: bool
    by_call: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Number of a call -> its messages in order (the first 40 and all that were refused): "Tlopen -> EACCES"."""
    numbered: bool = False
    """Whether the trace names calls at all."""

    def missing(self, covers: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `covers` (Tgetattr, ...) that did not cross."""
        return tuple(name for name in covers if name not in self.counts)

    def and_then(self, other: Crossed) -> Crossed:
        """Both, concatenated."""
        messages = (*self.messages, *other.messages)[:_SHOWN]
        return replace(
            self,
            messages=messages,
            counts=dict(Counter(self.counts) + Counter(other.counts)),
            lost=self.lost or other.lost,
        )

    def refused(self, call: int, errno: str) -> frozenset[str]:
        """The messages of that call that the server answered with that errno."""
        parts = (one.partition(" -> ") for one in self.by_call.get(call, ()))
        return frozenset(message for message, _, seen in parts if seen == errno)


NOTHING = Crossed((), {}, lost=False)


def parse(text: str) -> Crossed:
    """Read a trace as tracefs prints it. Requests inside the suite's own marks are left out."""
    counts: Counter[str] = Counter()
    shown: list[str] = []
    calls: dict[int, list[str]] = {}
    making: dict[str, int] = {}
    """Task -> the call that it makes."""
    checking: set[str] = set()
    """Tasks in a comparison of the suite's own."""
    waiting: dict[str, tuple[int | None, list[str], int]] = {}
    """Tag -> where the request stands in `shown`, and where among those of its call."""
    numbered = False
    for line in text.splitlines():
        found = _TASK.search(line)
        task = found[1] if found else ""
        if mark := _MARK.search(line):
            if mark[2]:
                numbered, making[task] = True, int(mark[2])
            elif mark[1] == "begin":
                checking.add(task)
            else:
                checking.discard(task)
        elif request := _REQUEST.search(line):
            if task in checking:
                waiting.pop(request[2], None)
                continue
            name = _message(request[1])
            counts[name] += 1
            of_call = calls.setdefault(making.get(task, 0), [])
            of_call.append(name)
            waiting[request[2]] = (len(shown) if len(shown) < _SHOWN else None, of_call, len(of_call) - 1)
            if len(shown) < _SHOWN:
                shown.append(name)
        elif (reply := _REPLY.search(line)) and reply[2] in waiting:
            (at, of_call, place), number = waiting.pop(reply[2]), int(reply[3])
            if number:
                of_call[place] += f" -> {errno_name(abs(number))}"
                if at is not None:
                    shown[at] = of_call[place]
    calls.pop(0, None)
    by_call = {
        number: tuple(one for at, one in enumerate(said) if at < _SHOWN_OF_A_CALL or " -> " in one)
        for number, said in calls.items()
    }
    return Crossed(tuple(shown), dict(counts), "LOST" in text, by_call, numbered)


def by_phase(text: str) -> dict[str, Counter[str]] | None:
    """The requests of a benchmark's work: phase that it noted in the trace ("assay9 phase timed") -> message -> count.

    Whatever task sent them: nothing else works in that guest then. None if some of the trace was lost, or it names no
    phase.
    """
    phases: dict[str, Counter[str]] = {}
    now: Counter[str] | None = None
    for line in text.splitlines():
        if mark := _PHASE.search(line):
            now = phases.setdefault(mark[1], Counter())
        elif now is not None and (request := _REQUEST.search(line)):
            now[_message(request[1])] += 1
    return phases if phases and "LOST" not in text else None


def _message(kernel_name: str) -> str:
    """P9_TGETATTR, as the kernel prints it, is Tgetattr."""
    return "T" + kernel_name[1:].lower()
