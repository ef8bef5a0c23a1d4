"""The request for a soak run, as kept in its journal: enough to resume after a kill -9, and to repeat the run."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.errors import UsageError
from conformance.sut.options import Load
from guests.words import shown


class Job(BaseModel):
    """One workload on one share. `instance` is its name in the journal: two jobs of the same workload differ in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    instance: str
    workload: str
    share: int = 0
    options: dict[str, Any] = {}


class Plan(BaseModel):
    """The whole run."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    target: str
    options: dict[str, Any] = {}
    """What the command line asked of the target, by the fields of its kind's options."""
    load: Load = Load()
    """What the workloads need of it."""
    jobs: list[Job] = Field(min_length=1)
    mount: str = ""
    seed: int
    seconds: float | None = None
    iterations: int | None = None
    first: int = 0
    """Number of the first iteration: to see one of another run again."""
    sample_seconds: float = 10.0
    faults: list[str] = []
    fault_seconds: float = 300.0
    accept_unknown: list[str] = []
    """Judges that may say `unknown` while the run passes."""
    artefact_mb: int = 256
    version: str = ""

    @staticmethod
    def of(kept: dict[str, Any]) -> Plan:
        """The plan from a journal. Raises UsageError if this version cannot read it."""
        try:
            return Plan(**kept)
        except (ValidationError, TypeError) as e:
            first = e.errors()[0] if isinstance(e, ValidationError) else {"loc": (), "msg": str(e)}
            place = ".".join(str(part) for part in first["loc"])
            raise UsageError(
                f"the journal's plan cannot be read ({place}: {first['msg']}): use the assay9 that wrote it, "
                "or begin another run"
            ) from e

    def limit(self) -> str:
        """When it ends, in words."""
        parts = [duration(self.seconds)] if self.seconds is not None else []
        parts += [f"{self.iterations} iterations"] if self.iterations is not None else []
        return " or ".join(parts) or "until interrupted"


def jobs_of(workloads: list[str], shares: int, options: dict[str, dict[str, Any]]) -> list[Job]:
    """A job for each workload named, spread over the shares; a number distinguishes repeated names."""
    made: list[Job] = []
    for place, name in enumerate(workloads):
        before = workloads[:place].count(name)
        instance = name if before == 0 else f"{name}-{before + 1}"
        made.append(Job(instance=instance, workload=name, share=place % shares, options=options.get(name, {})))
    return made


LONGEST = 10 * 365 * 86400.0
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds_of(text: str, option: str = "--for") -> float:
    """`90`, `45s`, `30m`, `24h`, `1h30m` or `2d` as seconds, more than 0. Raises UsageError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise UsageError(f"{option} {shown(text)}: give a time such as 30m, 24h or 1h30m")
    seconds = sum(float(n) * _UNITS[u] for n, u in parts)
    if seconds <= 0 or seconds > LONGEST:
        raise UsageError(f"{option} {shown(text)}: give more than 0s and at most ten years")
    return seconds


def duration(seconds: float) -> str:
    """2 h 05 min, 3 min 20 s, 45 s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole} s"
