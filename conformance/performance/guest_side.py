"""Starts the payload in a guest: one kind of work in one or several directories of it, in turn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from conformance.errors import InfrastructureError
from guests.agent.link import AgentLink, CallHung

PAYLOAD = Path(__file__).with_name("payload.py")
LIMIT = 900.0
"""Seconds that the work of one measure may take; it takes a minute at most, and more where a guest hangs."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Request(_Model):
    """The task for the payload."""

    work: str
    parameters: dict[str, int]
    processes: int
    seconds: float
    """How long one turn is to last."""
    places: dict[str, str]
    """Subject -> the directory to work in. One that is there was prepared by an earlier request."""
    also: dict[str, list[str]] = {}
    """Subject -> the same directory of its further shares: a process works in each at once."""
    build: bool = False
    """Only make what is worked on."""
    trace: bool = False
    """Note in the trace of the guest's 9P messages which part of the work is timed."""
    counts: dict[str, int] = {}
    """Repetitions in a turn; what is not named is found out by trying."""
    rounds: int
    first: int = 0
    """The number of the first round: it decides which place begins."""
    latency: bool = False
    """Time single repetitions as well."""


class Answer(_Model):
    """The payload's answer."""

    counts: dict[str, int]
    units: dict[str, float]
    """Units of work in a turn."""
    rounds: list[dict[str, float]]
    """The seconds of each turn, by subject."""
    latency: dict[str, list[float]]


class WorkFailed(Exception):
    """The work could not be done in that guest: a call failed, a program is missing. One line."""


def perform(inside: AgentLink, request: Request, limit: float = LIMIT) -> Answer:
    """Do it within `limit` seconds. Raises WorkFailed; InfrastructureError if the guest does not answer."""
    argv = ["python3", "-c", PAYLOAD.read_text(encoding="utf-8"), request.model_dump_json()]
    try:
        done = inside.calls_with(timeout=limit + 10).run(argv, timeout=limit)
    except CallHung as error:
        raise WorkFailed(f"it did not end within {limit:.0f} s") from error
    except FileNotFoundError:
        raise InfrastructureError("the guest has no python3", "install it there: the benchmark runs in it") from None
    if done["status"] != 0:
        said = done["stderr"].decode(errors="replace").strip().splitlines() or [f"status {done['status']}"]
        raise WorkFailed(said[-1])
    try:
        answer = Answer.model_validate(json.loads(done["stdout"]))
    except (ValueError, ValidationError) as error:
        raise InfrastructureError(f"the guest's answer cannot be read: {error}") from None
    return answer


def per_unit(answer: Answer, took: Mapping[str, float]) -> dict[str, float]:
    """Seconds of one unit of one round, by subject."""
    return {name: seconds / answer.units[name] for name, seconds in took.items()}
