"""Each class of ring case can fail: a correct device passes all, and a device with a fault fails the case for it."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any, cast

import pytest

from conformance.case import CASES, Case
from conformance.cases import ring as ring_cases
from conformance.cases.ring.test_random import _attempt
from conformance.errors import Finding, Undrivable
from conformance.ground import HostGround
from conformance.raw.ring import Ring
from conformance.run.ring import RingSession
from conformance.sut.servers.tables import ClientTable
from conformance.transports.virtqueue import RingLink
from guests.host.endings import OutOfMemory
from tests.links.model import TAG, ModelDevice

for _path in sorted(Path(ring_cases.__file__).parent.glob("test_*.py")):
    importlib.import_module(f"conformance.cases.ring.{_path.stem}")
RING = {id: case for id, case in CASES.items() if case.layer == "ring"}


class _Server:
    """The model as a server."""

    aname = b""
    name = "model"
    export = None
    tag = TAG
    capabilities = RingLink.capabilities

    def __init__(self, model: ModelDevice) -> None:
        self.model = model

    def device(self) -> ModelDevice:
        self.model.reset()
        return self.model

    def death(self) -> str | None:
        return "the model died" if self.model.dead else None

    def log_size(self) -> int:
        return 0

    def log(self, since: int = 0) -> str:
        return ""

    def pid(self) -> int | None:
        return None

    def ground_lost(self, memory: OutOfMemory) -> None:
        return None

    def argv(self) -> list[str]:
        return []

    def connect(self) -> RingLink:
        return RingLink(self.model)

    def start(self) -> None:
        self.model.dead = False
        self.model.reset()

    stop = start


class _Session(RingSession):
    """A session on the model, without a run's directory."""

    def __init__(self, model: ModelDevice) -> None:
        self.server = cast(Any, _Server(model))
        self.spec = ClientTable()
        self.capabilities = RingLink.capabilities
        self.missing = {}
        self._works = False
        self._ground = HostGround([])


def variants(case: Case) -> list[dict[str, Any]]:
    """The case's parameters, every combination that pytest would try."""
    found: list[dict[str, Any]] = [{}]
    for mark in getattr(case.function, "pytestmark", []):
        name, values = mark.args
        plain = [v.values[0] if hasattr(v, "values") else v for v in values]
        found = [{**done, name: value} for done in found for value in plain]
    return found


def outcome(case: Case, parameters: dict[str, Any], *faults: str) -> BaseException | None:
    """The outcome of the case on a model with those faults."""
    assert "ring" in inspect.signature(case.function).parameters
    session = _Session(ModelDevice(*faults))
    return session.run(case, "", lambda ring: case.function(ring=ring, **parameters)).raised


def findings(id: str, *faults: str) -> list[BaseException]:
    """All findings of a case with any of its parameters; any other exception is an error of the suite."""
    raised = [outcome(RING[id], parameters, *faults) for parameters in variants(RING[id])]
    for seen in raised:
        if seen is not None and not isinstance(seen, Finding | Undrivable):
            raise seen
    return [seen for seen in raised if isinstance(seen, Finding)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY9_RING_SCALE", "100")
    monkeypatch.setattr("conformance.raw.ring.QUIET", 0.0)
    monkeypatch.setattr("conformance.raw.ring.ANSWER", 1.5)
    monkeypatch.setattr("conformance.cases.ring.test_event.ANSWER", 0.05)


@pytest.mark.parametrize("id", sorted(RING))
def test_a_right_device_passes(id: str) -> None:
    assert findings(id) == []


FAULTS = {
    "first buffer only": "CHAIN-002",
    "header in one buffer": "CHAIN-003",
    "buffers reversed": "CHAIN-004",
    "first of indirect only": "CHAIN-005",
    "loses at the wrap": "CHAIN-009",
    "used length is room": "CHAIN-014",
    "wrong tag": "CHAIN-013",
    "used twice": "CHAIN-015",
    "stray byte": "CHAIN-001",
    "writes request": "CHAIN-001",
    "loops": "ILLEGAL-001",
    "index unchecked": "ILLEGAL-003",
    "order unchecked": "ILLEGAL-005",
    "no room unchecked": "ILLEGAL-006",
    "zero length": "ILLEGAL-008",
    "address unchecked": "ILLEGAL-009",
    "address wraps": "ILLEGAL-011",
    "indirect unchecked": "ILLEGAL-012",
    "avail jump": "ILLEGAL-021",
    "loses others": "ILLEGAL-026",
    "returns and stops": "ILLEGAL-001",
    "size field trusted": "FRAME-001",
    "msize unchecked": "FRAME-004",
    "reply cut": "FRAME-003",
    "reply beyond": "FRAME-003",
    "never notifies": "EVENT-001",
    "avail_event stays": "EVENT-011",
    "ignores suppression": "EVENT-002",
    "flags with event index": "EVENT-006",
    "fids survive a reset": "RESET-003",
    "refuses features": "FEATURE-003",
    "no tag feature": "FEATURE-001",
    "offer changes": "FEATURE-006",
    "config by width": "CONFIG-002",
    "config written": "CONFIG-005",
}
"""Each fault of the model -> the case that has to find it."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str) -> None:
    assert findings(FAULTS[fault], fault)


@pytest.mark.parametrize("id", ["ILLEGAL-001", "ILLEGAL-005", "ILLEGAL-021", "ILLEGAL-022", "ILLEGAL-026", "FRAME-001"])
def test_a_right_device_that_is_slow_passes(id: str) -> None:
    assert findings(id, "late") == []


@pytest.mark.parametrize("fault", ["order unchecked", "avail jump", "size field trusted"])
def test_a_fault_of_a_slow_device_is_found(fault: str) -> None:
    """Silence does not count as a refusal: the device may only be slow."""
    assert findings(FAULTS[fault], fault, "late")


def test_a_device_that_serves_no_others_is_found() -> None:
    (first, *_) = findings("ILLEGAL-001", "loses others")
    assert "a valid one after it is not served" in str(first)


def test_where_no_need_of_a_reset_can_be_seen_it_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.raw.ring.ANSWER", 3600.0)
    monkeypatch.setattr("conformance.raw.ring.UNSHOWN", 0.2)
    (first, *_) = findings("ILLEGAL-001", "hides its reset")
    assert "is not served for 0.2 s; no need of a reset is shown here" in str(first)
    assert not findings("ILLEGAL-001")


def test_a_random_chain_that_does_harm_is_found() -> None:
    chain = [(0, 19, 1, 1), (3, 512, 2, 0)]
    for faults, wanted in (((), None), (("stray byte",), Finding), (("writes request",), Finding)):
        session = _Session(ModelDevice(*faults))
        raised = session.run(RING["RANDOM-001"], "", lambda ring: _attempt(ring, chain, 0, 1)).raised
        assert raised is None if wanted is None else isinstance(raised, wanted)


def test_indices_of_fifteen_bits_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY9_RING_SCALE", "1")
    assert findings("CHAIN-010", "index of 15 bits")


def test_a_death_is_charged_and_the_next_case_runs() -> None:
    model = ModelDevice("index unchecked")
    session = _Session(model)

    def bad(ring: Ring) -> None:
        RING["ILLEGAL-003"].function(ring=ring, beyond=1)

    raised = session.run(RING["ILLEGAL-003"], "", bad).raised
    assert isinstance(raised, Finding)
    assert "died" in str(raised)
    after = session.run(RING["CHAIN-001"], "", lambda ring: RING["CHAIN-014"].function(ring=ring, layout=1 << 32 | 1))
    assert after.raised is None
