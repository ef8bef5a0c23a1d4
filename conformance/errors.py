"""The three roots of all exceptions, never mixed: the target, the suite, the infrastructure.

Only `Finding` is an AssertionError: pytest and Allure show AssertionErrors as *failed* and
everything else as *broken*, and the gate's exit status follows the same line.
`InfrastructureError` and `UsageError` are declared in `guests.errors` (the lower package) and re-exported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from conformance.vocabulary import Severity
from guests.errors import InfrastructureError, UsageError

__all__ = [
    "Finding",
    "Findings",
    "InfrastructureError",
    "SuiteError",
    "TargetDied",
    "Undrivable",
    "Unsupported",
    "UsageError",
]


class Finding(AssertionError):
    """The target is wrong: what was seen differs from what the case's source requires.

    `code` is stable across releases of the suite: profiles match it, and `values`, never the text. A code is a word, or
    a word and a detail (`field:mtime_ns`); `conformance.checks.CODES` says what each word means. `values` names what
    the text says: `call`, `what`, `seen`, `expected`, `inside`, `outside`, ..., each as short text.

    `severity` is set if this finding is lighter than its case: a refusal with an unusual errno, in a case that demands
    a refusal. None means the case's own.
    """

    def __init__(
        self, text: str, code: str, values: Mapping[str, object] | None = None, severity: Severity | None = None
    ) -> None:
        super().__init__(text)
        self.code = code
        self.severity = severity
        self.values: dict[str, str] = {name: str(value) for name, value in (values or {}).items()}


class Findings(Finding):
    """Several findings of one case, in the order in which they were seen; code and values are those of the first."""

    MOST_SHOWN = 20
    """Findings that the text shows; it says how many more there are."""

    def __init__(self, found: Sequence[Finding]) -> None:
        lines = [str(one) for one in found[: self.MOST_SHOWN]]
        if more := len(found) - len(lines):
            lines.append(f"and {more} more")
        super().__init__("\n".join(lines), found[0].code, found[0].values)
        self.found = tuple(found)


class TargetDied(Finding):
    """The target crashed or stopped responding: the server, the device, or the guest that it serves."""

    def __init__(self, text: str = "", code: str = "died", values: Mapping[str, object] | None = None) -> None:
        super().__init__(text, code, values)


class SuiteError(Exception):
    """The suite is wrong: a case that fails on a native file system, a comparison without a rule."""


class Undrivable(Exception):
    """This guest, transport or host cannot express the case. The text says why; every report shows it."""


class Unsupported(Exception):
    """The target declares this feature as unsupported, and the declared errno was seen."""
