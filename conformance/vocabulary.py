"""The vocabulary of verdicts, each word defined once: literals of verdicts, severities, layers, rules, and errnos.

Rule of this module: words and their meaning, no decisions.
"""

from __future__ import annotations

from typing import Literal, get_args

from protocol.constants import ERRNO_NAMES

Layer = Literal["ring", "wire", "vfs", "property", "sequence", "application"]
"""What a case drives."""
LAYERS: tuple[Layer, ...] = ("ring", "wire", "vfs", "property", "sequence", "application")

Severity = Literal["must", "linux", "varies"]
"""How grave a requirement is, the gravest first: the specification, data or confinement; what real guests break on;
what may differ, and is recorded."""
GRAVITY: dict[Severity, int] = {severity: number for number, severity in enumerate(get_args(Severity))}
"""Sorts severities, the gravest first."""

Outcome = Literal["pass", "fail", "known", "fixed", "unsupported", "undrivable", "error"]
"""What a case comes to that ran once."""
Verdict = Literal["pass", "fail", "known", "fixed", "unsupported", "undrivable", "unstable", "error"]
"""What a case comes to in a run, which may try it several times."""
Standing = Literal[
    "pass", "fail", "fixed", "unstable", "error", "known", "varies", "guest", "unsupported", "undrivable"
]
"""A verdict as reports count it, see `conformance.evidence.overview.standing`."""

DecidedBy = Literal["server", "informed", "guest"]
"""Who could have made a case fail. `server`; `informed`: the guest's kernel on what the server answered; `guest`: the
guest's kernel alone."""

RuleKind = Literal["exact", "identity", "rescaled", "informational"]
"""How a field is compared. exact: equal values. identity: different numbers, but equal ones stay equal and different
ones different (inode numbers). rescaled: equal after conversion to bytes, within one block and within what changed
outside meanwhile. informational: shown, never judged."""


def errno_name(number: int) -> str:
    """ENOENT for 2, `errno 4711` for a number without a name."""
    return ERRNO_NAMES.get(number, f"errno {int(number)}")
