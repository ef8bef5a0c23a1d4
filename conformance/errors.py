"""The three roots of what can go wrong, never mixed: the target, the suite, the infrastructure.

Only `Finding` is an AssertionError: pytest and Allure show AssertionErrors as *failed* and
everything else as *broken*, and the gate's exit status follows the same line.
`InfrastructureError` is declared in `guests.errors` (the lower package) and re-exported here.
"""

from __future__ import annotations

from guests.errors import InfrastructureError

__all__ = ["Finding", "InfrastructureError", "SuiteError", "TargetDied", "Undrivable", "Unsupported", "UsageError"]


class Finding(AssertionError):
    """The target did wrong: what was seen is not what the case's source requires."""


class TargetDied(Finding):
    """The target serves no longer: it, its guest or a device of it died or answers no more."""


class SuiteError(Exception):
    """The suite did wrong: a case that fails on a native file system, a comparison without a rule."""


class UsageError(Exception):
    """The user asked for what cannot be: unknown target, misspelt key. One line, with the remedy."""


class Undrivable(Exception):
    """This guest, link or host cannot express the case. The text says why; it is shown in every report."""


class Unsupported(Exception):
    """The target declares that it lacks this feature, and the declared errno was seen."""
