"""The meaning of a changed standing: the one table that `compare` and `gate` share. Pure."""

from __future__ import annotations

from typing import Literal

from conformance.vocabulary import Standing

Kind = Literal["worse", "better", "otherwise", "only before", "only after"]
MEANING: dict[Kind, str] = {
    "worse": "held and no longer does, fails where that was declared, or is no longer judged",
    "better": "did not hold or was not judged, and does now",
    "otherwise": "neither: declared in another way, or known for another reason",
    "only before": "in the first run only",
    "only after": "in the second run only",
}
LEVEL: dict[Standing, int] = {
    "pass": 3,
    "guest": 3,
    "fixed": 3,
    "known": 2,
    "varies": 2,
    "unsupported": 2,
    "fail": 1,
    "unstable": 0,
    "undrivable": 0,
    "error": 0,
}
"""The rank of a standing: holds; fails as declared; fails; says nothing about the target."""


def kind_of(was: Standing | None, now: Standing | None) -> Kind:
    """How `now` compares with `was`; None means that the run has no such case."""
    if was is None or now is None:
        return "only after" if was is None else "only before"
    if LEVEL[now] < LEVEL[was]:
        return "worse"
    return "better" if LEVEL[now] > LEVEL[was] else "otherwise"
