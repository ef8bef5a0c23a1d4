"""Runs wire cases on one server and judges them; the counterpart of `conformance.run.mounted`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from conformance.case import Case
from conformance.errors import InfrastructureError, UsageError
from conformance.evidence.models import CaseResult, Machine
from conformance.profiles.model import NotSupported, Setting, VersionOf
from conformance.raw.health import as_unsupported, not_implemented
from conformance.run.evidence import case_result
from conformance.run.session import Make, WireSession
from conformance.run.tested import exported, exported_here, machine_of, programs
from conformance.run.verdict import judge
from conformance.sut.kind import Asked
from conformance.sut.layers import chosen_link
from conformance.sut.registry import kind_of
from guests.host.progress import Progress, silent


class WireRunner:
    """One worker's server, and the verdicts of cases on it."""

    argument = "wire"
    """The cases' fixture that the real one takes the place of."""

    layer = "wire"

    def __init__(self, asked: Asked[Any, Any], run_dir: Path, worker: str, progress: Progress = silent) -> None:
        self.target, self.worker = asked.target, worker
        self.session = self._session(maker(asked, self.layer, progress), run_dir)
        self.session.requests = asked.options.requests or 0
        self.broken: InfrastructureError | None = None
        self.machines: dict[str, Machine] = {}
        self._version = self._hypervisor = ""

    def _session(self, make: Make, run_dir: Path) -> WireSession:
        return WireSession(make, run_dir, self.target.profile)

    def start(self) -> None:
        """Bring the server up; if that fails, every case reports it."""
        try:
            self.session.start()
            seen = self.environment()
            self._version, self._hypervisor = str(seen.get("target_version", "")), str(seen.get("hypervisor", ""))
        except InfrastructureError as e:
            self.broken = e

    def environment(self) -> dict[str, Any]:
        """See `conformance.vfs.deployment.Deployment`."""
        lines = self.not_implemented()
        return self.session.versions() | ({"messages not implemented": "; ".join(lines)} if lines else {})

    def captured(self) -> dict[str, Any]:
        """See CaseRunner."""
        seen, pid = self.session.versions(), self.session.server.pid()
        self.machines[f"{self.worker} {self.argument}"] = machine_of(seen)
        found: dict[str, Any] = {"programs": programs({"device": seen["argv"]}, {"device": pid} if pid else {})}
        export, far = self.session.server.export, self.session.server.far
        there = exported_here(export) if export is not None else exported(*far) if far is not None else None
        if there is not None:
            found["exported"] = there
        return found

    def not_implemented(self) -> list[str]:
        """A line for each message that the server does not implement."""
        return not_implemented(self.session.missing)

    def run_item(
        self, case: Case, parameters: str, function: Callable[..., None], arguments: dict[str, Any]
    ) -> tuple[CaseResult, BaseException | None]:
        """Run a case's function, its `wire` replaced by the real one."""
        begun = time.monotonic()
        raised: BaseException | None = self.broken
        crossed, log = None, ""
        if self.broken is None:

            def body(wire: Any) -> None:
                function(**{**arguments, self.argument: wire})

            try:
                outcome = self.session.run(case, parameters, body)
                raised, crossed, log = outcome.raised, outcome.crossed, outcome.log
            except InfrastructureError as e:  # the server could not be restarted
                raised = self.broken = e
        profile = self.target.profile
        versions: dict[VersionOf, str] = {"target": self._version, "hypervisor": self._hypervisor}
        known = profile.known_failures(case.id, parameters, Setting(versions=versions))
        contradicted = needed(profile.unsupported, case, parameters, self.session.missing) if raised is None else ()
        judgement = judge(case, as_unsupported(profile.unsupported, raised), crossed, known, contradicted, [])
        excerpts = [("server log", log)] if log.strip() else []
        result = case_result(
            case,
            parameters,
            judgement,
            raised=raised,
            crossed=crossed,
            excerpts=excerpts,
            seconds=time.monotonic() - begun,
            worker=self.worker,
            machines=list(self.machines),
        )
        return result, raised

    def stop(self) -> None:
        """End the server."""
        self.session.stop()


def maker(asked: Asked[Any, Any], layer: str, progress: Progress = silent) -> Make:
    """A function that makes a target's server in a directory. Raises UsageError if it has no raw transport."""
    kind = kind_of(asked.target)
    transport = chosen_link(asked.target, asked.options.link, layer)
    if transport is None:
        raise UsageError(f"target {asked.target.name} is of kind {kind.name}: raw frames do not reach it")
    return partial(kind.server, asked, transport, progress=progress)


def needed(
    declared: Sequence[NotSupported], case: Case, parameters: str, missing: Mapping[str, str]
) -> tuple[NotSupported, ...]:
    """The entries that a passing case contradicts: features that it names, and in family `message` an implemented
    message. Such an entry must be removed.
    """
    return tuple(
        one
        for one in declared
        if one.feature in case.needs
        or (case.family == "message" and one.feature == parameters and one.feature not in missing)
    )
