"""Which 9P messages crossed while a case ran, from the guest's own tracepoints (events/9p of Linux).

`9p_client_req` names each request and `9p_client_res` its reply with the errno; both are emitted by
net/9p/client.c for every transport. The agent brackets the suite's own comparisons with trace marks, so that
they do not count as the case's traffic.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from conformance.vantage import errno_name

_REQUEST = re.compile(r"9p_client_req: client \S+ request (?:P9_)?(T\w+) tag\s+(\d+)")
_REPLY = re.compile(r"9p_client_res: client \S+ response (?:P9_)?([TR]\w+) tag\s+(\d+) err (-?\d+)")
_MARK = re.compile(r"tracing_mark_write: assay9 (begin|end)")
_SHOWN = 400

BEGIN_CHECK, END_CHECK = "assay9 begin", "assay9 end"


@dataclass(frozen=True, slots=True)
class Crossed:
    """The messages of one case: in order (the first 400), counted by type, and how many were lost."""

    messages: tuple[str, ...]
    counts: dict[str, int]
    lost: bool

    def missing(self, covers: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `covers` (Tgetattr, ...) that did not cross."""
        return tuple(name for name in covers if name not in self.counts)

    def and_then(self, other: Crossed) -> Crossed:
        """Both, one after the other."""
        messages = (*self.messages, *other.messages)[:_SHOWN]
        return Crossed(messages, dict(Counter(self.counts) + Counter(other.counts)), self.lost or other.lost)


NOTHING = Crossed((), {}, lost=False)


def parse(text: str) -> Crossed:
    """Read a trace as tracefs prints it. Requests inside the suite's own marks are left out."""
    counts: Counter[str] = Counter()
    shown: list[str] = []
    waiting: dict[str, int] = {}
    checking = False
    for line in text.splitlines():
        if mark := _MARK.search(line):
            checking = mark[1] == "begin"
        elif checking:
            continue
        elif request := _REQUEST.search(line):
            name = _message(request[1])
            counts[name] += 1
            if len(shown) < _SHOWN:
                waiting[request[2]] = len(shown)
                shown.append(name)
        elif (reply := _REPLY.search(line)) and reply[2] in waiting:
            at, number = waiting.pop(reply[2]), int(reply[3])
            if number:
                shown[at] += f" -> {errno_name(abs(number))}"
    return Crossed(tuple(shown), dict(counts), "LOST" in text)


def _message(kernel_name: str) -> str:
    """P9_TGETATTR, as the kernel prints it, is Tgetattr."""
    return "T" + kernel_name[1:].lower()
