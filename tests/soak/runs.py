"""Runs of a soak within a test: a plan, a journal, the runner, its judges."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

from soak import journal as journals
from soak.judges import Judgement
from soak.plan import Plan, jobs_of
from soak.report.facts import Facts
from soak.report.write import write
from soak.run import Runner
from soak.view import View

SERVER = Path(__file__).with_name("wrong_server.py")


def soaked(directory: Path, *faults: str, options: dict[str, Any] | None = None, workload: str = "tree",
           **plan: Any) -> tuple[Facts, float]:  # fmt: skip
    """A run on target `local` through the wrong server with those faults; what it shows, and the seconds it took."""
    through = [sys.executable, str(SERVER), *faults]
    made = Plan(target="local", target_options={"through": through},
                jobs=jobs_of([workload], 1, {workload: options or {}}),
                **{"seed": 1, "sample_seconds": 0.5, **plan})  # fmt: skip
    begun = time.monotonic()
    with journals.create(directory / "run", made.model_dump()) as journal:
        Runner(journal, View(io.StringIO())).run()
        return write(journal), time.monotonic() - begun


def judgement(facts: Facts, name: str) -> Judgement:
    """The judgement whose name begins so."""
    return next(j for j in facts.judgements if j.name.startswith(name))
