"""Busy polling: a device that was woken soon after it slept polls for the next request; any other sleeps at once."""

from __future__ import annotations

import os
from functools import partial

import pytest

from protocol import codec
from protocol.constants import NOFID
from protocol.messages import Rattach, Rversion, Tattach, Tversion
from protocol.virtqueue import Feature
from reference_server.virtio import patience
from reference_server.virtio.patience import Patience
from tests.virtio.driver import Driver

MOST = 0.1


class Clock:
    """Time passes only at a yield; it stands in for the modules time and os."""

    def __init__(self) -> None:
        self.now, self.yields = 1000.0, 0

    def monotonic(self) -> float:
        """Stands in for time.monotonic."""
        return self.now

    def sched_yield(self) -> None:
        """A hundredth of a second passes."""
        self.now += 0.01
        self.yields += 1

    def sched_getaffinity(self, _pid: int) -> set[int]:
        """Two processors."""
        return {0, 1}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(patience, "time", made)
    monkeypatch.setattr(patience, "os", made)
    return made


def never() -> bool:
    """Find nothing."""
    return False


def test_nobody_looks_before_it_was_worth_it(clock: Clock) -> None:
    assert not Patience(MOST).sees(never)
    assert clock.yields == 0


@pytest.mark.parametrize(("asleep", "looks"), [(MOST / 2, True), (MOST * 2, False)])
def test_who_was_woken_soon_looks_the_next_time(clock: Clock, asleep: float, looks: bool) -> None:
    one = Patience(MOST)
    one.sees(never)
    clock.now += asleep
    one.woken()
    assert not one.sees(never)
    assert bool(clock.yields) is looks
    assert clock.now <= 1000 + asleep + MOST + 0.02


def reached(clock: Clock, at: float) -> bool:
    """Whether the clock shows that time."""
    return clock.now >= at


def test_what_comes_meanwhile_is_seen_and_patience_stays(clock: Clock) -> None:
    one = Patience(MOST)
    one.sees(never)
    one.woken()
    for _ in range(3):
        come = clock.now + MOST / 2
        assert one.sees(partial(reached, clock, come))
        clock.now += 10 * MOST  # a long request
        one.woken()


def test_looking_in_vain_and_a_long_sleep_end_it(clock: Clock) -> None:
    one = Patience(MOST)
    one.sees(never)
    one.woken()
    assert not one.sees(never)
    clock.now += 1
    one.woken()
    seen = clock.yields
    assert not one.sees(never)
    assert clock.yields == seen


def test_never_with_none_or_on_one_processor(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "sched_getaffinity", lambda _pid: {0})
    alone = Patience(MOST)
    for one in (Patience(0.0), alone):
        one.sees(never)
        one.woken()
        assert not one.sees(never)
    assert clock.yields == 0


@pytest.mark.parametrize("features", [0, Feature.RING_PACKED.mask])
def test_a_driver_is_notified_before_the_device_looks(monkeypatch: pytest.MonkeyPatch, features: int) -> None:
    """A request that the driver makes meanwhile is answered without a kick."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    driver = Driver(features, busy_poll=5.0)
    try:
        version, attach = Tversion(0xFFFF, 8192, b"9P2000.L"), Tattach(1, 7, NOFID, b"root", b"", 0)

        def asked_while_it_looks() -> None:
            monkeypatch.undo()
            assert driver.signals == reported + 1
            done = driver.used()
            assert isinstance(codec.decode(driver.get(done[0][2], done[0][1])), Rversion)
            driver.ask(attach)
            driver.device._patience._hopes = False  # so that it sleeps after this request

        driver.rpc(version)  # the device falls asleep after this
        reported = driver.signals
        monkeypatch.setattr(os, "sched_yield", asked_while_it_looks)
        driver.ask(version)
        assert not driver.device.run(driver.queue)
        done = driver.used()
        assert isinstance(codec.decode(driver.get(done[0][2], done[0][1])), Rattach)
    finally:
        driver.close()
