"""The deployment of `attach` against an SSH server of this process: "guest" and "host" are this machine.

The share is one directory seen twice, and is declared to be a 9p mount. The tests check how two machines are reached
and how the share is shown to be the directory. They also check what is left, and what a lost connection is charged to.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from conformance.errors import UsageError
from conformance.ground import GroundLost
from conformance.sut.attach import deployment as attaching
from conformance.sut.attach.facts import Facts
from conformance.vfs.mount_options import DEFAULT, MountOptions
from guests.agent.clock import GuestClock, WrongClock
from tests.attach.conftest import SHOWN, Machines


def test_both_machines_are_asked_and_nothing_is_left(machines: Machines) -> None:
    (machines.share / "theirs").write_text("not the suite's")
    attached = machines.attach()
    attached.start()
    assert attached.mount(DEFAULT) == f"work {machines.share} 9p {SHOWN}"
    assert attached.security_model == "passthrough"
    assert {"guest-root", "host-root"} <= attached.features
    assert not {"remount", "mount-namespace", "four-shares"} & attached.features
    assert machines.reported[0].startswith("guest guest: Linux") and machines.reported[1].startswith(
        "outside host: Linux"
    )
    assert attached.environment()["access"] == "SSH to guest"
    attached.inside.calls.create(f"{attached.inside_root}/of-the-run", b"")
    attached.stop()
    attached.stop()
    assert machines.left() == [machines.share / "theirs"]
    assert (machines.share / "theirs").read_text() == "not the suite's"


def test_a_share_that_is_not_the_directory_is_refused_at_once(machines: Machines, tmp_path: Path) -> None:
    (tmp_path / "another").mkdir()
    attached = machines.attach(outside=f"host:{tmp_path}/another")
    with pytest.raises(UsageError, match=r"is not the directory .*/another on host of host: what is written there"):
        attached.start()
    assert machines.left() == [] and list((tmp_path / "another").iterdir()) == []


def test_a_guest_whose_clock_runs_wrong_is_refused(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = GuestClock(lambda _: (0, time.monotonic_ns() * 12))
    monkeypatch.setattr(attaching, "uptime", lambda host: fast)
    with pytest.raises(WrongClock, match=r"the guest's clock runs 1[12]\.\d+ times .* — .*: boot the guest again"):
        machines.attach().start()
    assert machines.left() == []


def test_a_directory_that_there_is_not_is_refused(machines: Machines) -> None:
    with pytest.raises(UsageError, match="--outside: /nowhere is not a directory of host"):
        machines.attach(outside="host:/nowhere").start()
    wrong = f"host:{machines.share.parent}/shaer"
    with pytest.raises(UsageError, match=rf"is not a directory of host: did you mean '.*/{machines.share.name}'\?"):
        machines.attach(outside=wrong).start()
    assert machines.left() == []


def test_another_way_of_mounting_is_not_had_of_a_mounted_share(machines: Machines) -> None:
    attached = machines.attach()
    attached.start()
    with pytest.raises(
        Exception, match="the share is mounted otherwise, and stays so: cache is none, mmap was requested"
    ):
        attached.mount(MountOptions(cache="mmap"))
    attached.stop()


def test_a_connection_that_was_lost_and_is_back_charges_nobody(machines: Machines) -> None:
    attached = machines.attach()
    attached.start()
    machines.guest.cut()
    lost = attached.ground_lost(answers=False)
    assert isinstance(lost, GroundLost)
    assert "the connection to guest was lost, and is back" in str(lost)
    attached.rebuild()
    assert attached.trouble() is None and attached.ground_lost() is None
    attached.stop()
    assert machines.left() == []


def test_a_guest_that_has_booted_meanwhile_is_no_lost_connection(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached = machines.attach()
    attached.start()
    machines.guest.cut()
    booted = Facts("guest", str(machines.control), {"boot": "another"})
    monkeypatch.setattr(attaching, "ask", lambda host, place: booted)
    assert attached.ground_lost(answers=False) is None
    assert attached.trouble() == "the guest rebooted"
    monkeypatch.undo()
    attached.stop()


def test_a_host_that_is_gone_charges_nobody(machines: Machines) -> None:
    attached = machines.attach()
    attached.start()
    machines.host.cut()
    assert "the agent at" in str(attached.ground_lost())
    attached.rebuild()
    assert attached.ground_lost() is None
    attached.stop()
    assert machines.left() == []


def test_a_directory_that_somebody_removes_charges_nobody(machines: Machines) -> None:
    attached = machines.attach()
    attached.start()
    attached.outside.calls.rmtree(attached.outside_root)
    assert "is gone" in str(attached.ground_lost())
    attached.rebuild()
    assert attached.ground_lost() is None
    attached.stop()
    assert machines.left() == []
