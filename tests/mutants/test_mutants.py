"""Deliberately wrong servers: each fault is found by the case that is there for it, which passes without the fault."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import conformance.cases.wire
from conformance.case import CASES
from conformance.evidence.models import CaseResult
from conformance.run.wire import WireRunner
from conformance.sut.servers.programs import ReferenceServer
from conformance.sut.servers.tables import ReferenceTable
from tests.mutants.faults import FAULTS, Caught
from tests.mutants.proxy import Fault, Proxy
from tests.targets import served

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="servers under test are contained, which takes root")

WIRE_CASES = Path(conformance.cases.wire.__file__).parent


class Bench:
    """One reference server, and proxies in front of it."""

    def __init__(self, directory: Path) -> None:
        for path in WIRE_CASES.glob("test_*.py"):
            importlib.import_module(f"conformance.cases.wire.{path.stem}")
        self.directory = directory
        self.server = ReferenceServer(ReferenceTable(), directory)
        self.server.start()

    def run(self, fault: type[Fault], caught: Caught) -> CaseResult:
        """What becomes of the case on a server with that fault."""
        address = self.directory / f"{fault.__name__}.sock"
        address.unlink(missing_ok=True)
        export = self.server.export
        assert export is not None
        proxy = Proxy(fault, self.server.socket_path, address, export)
        asked = served(fault.__name__, program="external", address=str(address), export=str(self.server.export))
        runner = WireRunner(asked, self.directory, "main")
        # The server behind the proxy is ours and contained: cases may tempt it with what lies beside its export.
        runner.session.base = export.parent
        runner.session.server.pid = self.server.pid  # type: ignore[method-assign]
        runner.start()
        try:
            case = CASES[caught.case]
            result, _ = runner.run_item(case, "", case.function, {**caught.parameters, "wire": None})
            return result
        finally:
            runner.stop()
            proxy.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("mutants"))
    yield made
    made.server.stop()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_fault_is_found(fault: type[Fault], bench: Bench) -> None:
    caught = FAULTS[fault]
    result = bench.run(fault, caught)
    reported = f"{fault.__name__} was not found by {caught.case}: {result.verdict}: {result.reason}"
    assert result.verdict == caught.verdict, reported
    if caught.severity:
        assert result.severity == caught.severity
    said = "\n".join(one.text for one in result.findings) if caught.every else result.reason
    assert re.search(caught.says, said), said


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_case_passes_without_the_fault(fault: type[Fault], bench: Bench) -> None:
    result = bench.run(Fault, FAULTS[fault])
    assert result.verdict == "pass", result.reason
