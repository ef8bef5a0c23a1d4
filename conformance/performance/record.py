"""The record of a benchmark: every measured time, and what ran. Ratios are derived from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from conformance.errors import UsageError
from conformance.evidence.gathering import first_problem
from conformance.evidence.manifest import check_file
from conformance.evidence.models import Environment
from guests.host.files import content

RECORD: Final = "bench.json"
SCHEMA_VERSION: Final = 2
SHARE, CONTROL, OTHER, OTHER_CONTROL = "share", "control", "other", "other control"
"""What is measured: the target's share, the same guest's own file system, and the same of --against."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Subject(_Model):
    """One place where the work is done."""

    title: str
    """What serves it, for a person."""
    mounts: dict[str, str] = {}
    """As asked for -> the line of /proc/mounts."""


class Measured(_Model):
    """One measure: for each subject the seconds of each unit in each round, in the order of the rounds."""

    name: str
    work: str
    group: str
    unit: str
    mount: str
    series: str = ""
    at: int = 0
    axis: str = ""
    seconds: dict[str, list[float]] = {}
    """Of one unit."""
    counts: dict[str, int] = {}
    """Repetitions in a round."""
    latency: dict[str, list[float]] = {}
    """Seconds of a repetition: median, 95th and 99th percentile, the largest."""
    processor: dict[str, float] = {}
    """Processor seconds of the process that serves the share, for one unit; with a device inside a hypervisor that
    includes the guest."""
    messages: dict[str, dict[str, float]] = {}
    """9P message -> how many crossed for one unit. Empty where the guest's cache answered; a subject is missing where
    its messages are not known."""
    processor_by_message: dict[str, float] = {}
    """Processor seconds of the same process for one of those messages."""
    failed: str = ""
    """Why it could not be measured."""
    left_out: str = ""
    """Why it was not tried here; no failure."""
    without: dict[str, str] = {}
    """Subject -> why it alone was left out."""

    @property
    def measured(self) -> bool:
        """Whether there are times of the share."""
        return bool(self.seconds.get(SHARE))

    def crossed(self, subject: str) -> float | None:
        """How many 9P messages crossed for one unit; None if that is not known."""
        found = self.messages.get(subject)
        return sum(found.values()) if found is not None else None

    def by_message(self, subject: str) -> list[float]:
        """The seconds of each round for one message: all that it took, the guest's part included. Empty if none
        crossed, or that is not known."""
        crossed = self.crossed(subject)
        return [seconds / crossed for seconds in self.seconds.get(subject, [])] if crossed else []


class Bench(_Model):
    """One benchmark."""

    schema_version: int = SCHEMA_VERSION
    environment: Environment
    other_environment: Environment | None = None
    """Of the second guest, where --against has one of its own."""
    against: str = ""
    rounds: int
    seconds: float
    """How long one turn lasts, about."""
    subjects: dict[str, Subject]
    measures: list[Measured]
    whole: bool = True
    """It came to its end."""

    @property
    def target(self) -> str:
        """The target's name."""
        return self.environment.target


def is_bench(run_dir: Path) -> bool:
    """Whether the run is a benchmark."""
    return (run_dir / RECORD).is_file()


def load_bench(run_dir: Path) -> Bench:
    """Read a benchmark's record. Raises UsageError if there is none, or it was changed."""
    path = run_dir / RECORD
    try:
        check_file(path)
        said = json.loads(content(path))
        if isinstance(said, dict) and said.get("schema_version", 0) > SCHEMA_VERSION:
            raise UsageError(f"{path} is of a newer version of assay9: update assay9")
        return Bench.model_validate(said)
    except FileNotFoundError:
        raise UsageError(f"{run_dir} is not a benchmark: `assay9 bench TARGET` makes one") from None
    except ValidationError as error:
        raise UsageError(f"{path} is damaged: {first_problem(error)}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
