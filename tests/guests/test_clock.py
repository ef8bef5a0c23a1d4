"""The guest's clock: a wrong clock is always found, a right one is never blamed, on a busy machine too."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from guests.access.launcher import SocketLineChannel
from guests.agent import clock
from guests.agent.clock import MOST_OFFSET, GuestClock, Rate, WrongClock, check_and_set
from guests.agent.link import AgentLink, CallHung
from guests.agent.local_channel import LocalChannel
from guests.errors import InfrastructureError
from guests.machines.console_machine import PortMachine


@dataclass
class World:
    """A host and a guest whose clocks are simulated: nothing here takes real time."""

    rate: float = 1.0
    offset: float = 0.0
    """The error of the guest's time of day at the beginning, in seconds."""
    way: float = 0.001
    """The mean time of each way of a round trip, in seconds; the two ways differ at random."""
    seed: int = 1
    now: float = 1000.0
    stepped: int = 0
    reset_by_another: float | None = None
    """The error, in seconds, to which something in the guest resets the time of day whenever it was set."""
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def time_ns(self) -> int:
        return round((1.8e9 + self.now) * 1e9)

    def monotonic_ns(self) -> int:
        return round(self.now * 1e9)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clocks(self, step_ns: int) -> tuple[int, int]:
        """One round trip: the request, the answer, the way back."""
        self.now += self.way * self.dice.expovariate(1.0)
        self.stepped = 0 if self.reset_by_another is not None else self.stepped + step_ns
        guest = (self.now - 1000.0) * self.rate
        day = round((1.8e9 + 1000.0 + guest + self.offset) * 1e9) + self.stepped
        self.now += self.way * self.dice.expovariate(1.0)
        return day, round(guest * 1e9)

    @property
    def off(self) -> float:
        """The present error of the guest's time of day, in seconds."""
        return (self.now - 1000.0) * (self.rate - 1) + self.offset + self.stepped / 1e9

    def clock(self) -> GuestClock:
        return GuestClock(self.clocks, self)


WAYS = [0.0005, 0.005, 0.1]
"""`World.way` for an idle, a busy and an overloaded machine."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rate", [5.7, 8.6, 2.0, 1.03, 0.97, 0.5])
def test_a_clock_that_runs_wrong_is_found(rate: float, way: float) -> None:
    for seed in range(20):
        seen = World(rate, way=way, seed=seed).clock().rate()
        assert not seen.right
        if way < 0.1 or abs(rate - 1) > 0.1:
            assert seen.wrong and abs(seen.value - rate) <= seen.unsure


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rate", [1.0, 1.0001, 0.9999, 1.005, 0.995])
def test_a_clock_that_runs_right_is_never_called_wrong(rate: float, way: float) -> None:
    for seed in range(50):
        assert not World(rate, way=way, seed=seed).clock().rate().wrong


def test_measuring_takes_no_longer_than_it_must() -> None:
    right, wrong, hopeless = World(1.0), World(5.7), World(1.02, way=2.0)
    for world in (right, wrong, hopeless):
        world.clock().rate()
    assert right.now - 1000 < 2 and wrong.now - 1000 < 0.2 and hopeless.now - 1000 < 200


@pytest.mark.parametrize("offset", [0.0, 0.6, -0.6, -3600.0, 86400.0 * 365])
def test_the_time_of_day_is_set_to_within_ten_milliseconds(offset: float) -> None:
    for seed in range(20):
        world = World(offset=offset, seed=seed)
        said = world.clock().set()
        assert abs(world.off) <= MOST_OFFSET and abs(said.offset) <= MOST_OFFSET


def test_on_an_overloaded_machine_it_is_set_as_well_as_can_be_known() -> None:
    for seed in range(20):
        world = World(offset=-0.6, way=0.1, seed=seed)
        said = world.clock().set()
        assert abs(world.off - said.offset) <= said.unsure and abs(world.off) < 0.1


def test_a_clock_that_something_else_sets_back_is_one_line() -> None:
    with pytest.raises(InfrastructureError, match=r"cannot be set: it is off by 7\.000 s again"):
        World(offset=7.0, reset_by_another=7.0).clock().set()


def test_a_rate_that_is_not_known_well_enough_is_neither_right_nor_wrong() -> None:
    assert not Rate(1.5, 0.6).wrong and not Rate(1.0, 0.02).right
    assert Rate(1.5, 0.4).wrong and Rate(1.0, 0.005).right and not Rate(1.011, 0.0005).right


class Program:
    """A channel to the program for guests, which runs on this host."""

    def __init__(self, speed: float = 1.0) -> None:
        source = clock.PROGRAM.decode()
        if speed != 1.0:
            source = f"import time\nbegin = time.monotonic_ns()\n{source}".replace(
                "time.clock_gettime_ns(time.CLOCK_MONOTONIC)", f"round((time.monotonic_ns() - begin) * {speed})"
            )
        source = source.replace("time.clock_settime_ns(", "(lambda *_: None)(")  # this host's clock is not set
        self._process = subprocess.Popen([sys.executable, "-I", "-c", source], stdin=-1, stdout=-1)
        self.closed = False

    def send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def recv_line(self, timeout: float) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        self._process.communicate()
        self.closed = True


def test_the_program_for_guests_reads_them_and_ends_with_its_channel() -> None:
    channel = Program()
    assert check_and_set(channel).right and channel.closed


def test_a_fast_guest_is_distinguished_from_a_good_one_and_its_channel_is_closed() -> None:
    channel = Program(speed=5.7)
    with pytest.raises(WrongClock, match=r"runs \d\.\d+ times as fast as this host's .* run again"):
        check_and_set(channel)
    assert channel.closed


def test_the_agent_reads_its_clocks() -> None:
    link = AgentLink(LocalChannel())
    try:
        day, monotonic = link.calls.clock()
        assert abs(day / 1e9 - time.time()) < 60 and abs(monotonic / 1e9 - time.monotonic()) < 60
    finally:
        link.close()


class Hasty:
    """A channel to an agent that reports every call as hung at once."""

    def __init__(self) -> None:
        self._number = 0

    def send(self, data: bytes) -> None:
        self._number = json.loads(data)["id"]

    def recv_line(self, timeout: float) -> bytes:
        return json.dumps({"id": self._number, "hung": True}).encode()

    def close(self) -> None: ...


def test_a_call_is_hung_when_its_limit_is_over_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that ran 8 times too fast, `umount` counted as hung for 30 s after 3.5 s."""
    now = [100.0]
    monkeypatch.setattr("guests.agent.link.time.monotonic", lambda: now[0])
    link = AgentLink(Hasty())
    number = link.send("run", ("umount",), {}, "main", 30.0)
    now[0] += 3.5
    with pytest.raises(WrongClock, match=r"30 s pass in the guest within 3\.5 s: its clock runs too fast"):
        link.receive(number, 30.0)
    number = link.send("run", ("umount",), {}, "main", 30.0)
    now[0] += 30.1
    with pytest.raises(CallHung):
        link.receive(number, 30.0)


class Saved(PortMachine):  # type: ignore[type-arg]
    """A machine that is restored from a saved one; its clock runs at the configured speed."""

    program, accelerator, ready_limit = "a machine", "none", 1.0

    def __init__(self, run_dir: Path, speeds: list[float], saved: bool) -> None:
        super().__init__(run_dir, None, self_say.append)
        self.saved, self.speeds, self.rebuilds = saved, speeds, list[bool]()

    def _begin(self, rebuild: bool) -> Started:
        self.rebuilds.append(rebuild)
        return Started(self.speeds.pop(0))

    @property
    def reached_by(self) -> str:
        return "the launcher"

    def doubt(self) -> None: ...

    def agent_channel(self) -> SocketLineChannel:
        raise NotImplementedError


self_say: list[str] = []


class Started:
    """One start of the machine."""

    name, argv, pid = "s", list[str](), 0

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self.stopped = False

    def wait_ready(self, limit: float) -> None: ...

    def run_python(self, source: bytes) -> Program:
        return Program(self._speed)

    def stop(self) -> None:
        self.stopped = True


def test_a_saved_machine_whose_clock_runs_wrong_is_made_again_once(private_runtime: Path, tmp_path: Path) -> None:
    self_say.clear()
    machine = Saved(tmp_path, [5.7, 1.0], saved=True)
    machine.start()
    assert machine.rebuilds == [False, True]
    assert [line for line in self_say if "times as fast as this host's" in line and "making it again" in line]
    machine.stop()
    worse = Saved(tmp_path, [5.7, 5.7], saved=True)
    with pytest.raises(WrongClock):
        worse.start()
    assert worse.rebuilds == [False, True] and not worse.pid


def test_a_machine_that_is_booted_and_runs_wrong_is_one_line(private_runtime: Path, tmp_path: Path) -> None:
    machine = Saved(tmp_path, [5.7], saved=False)
    with pytest.raises(WrongClock, match="the guest's clock runs"):
        machine.start()
    assert machine.rebuilds == [False]
