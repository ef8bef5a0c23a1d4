"""Trouble around an attached machine is charged to nobody, and the machine is left as it was found.

These are the rows of docs/when-a-run-goes-wrong.md, "Machines of the user's", that need no guest of their own.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from conformance.evidence.models import CaseResult
from conformance.run.mounted import Runner
from conformance.sut.load import load
from conformance.vfs.mount_options import DEFAULT
from conformance.vfs.share import Share
from tests.attach.conftest import Machines
from tests.cases import made_case
from tests.slow_network import slow


@pytest.mark.parametrize(("pause", "sleep", "verdict"), [(1.0, "0", "pass"), (0.0, "1", "fail")])
def test_what_the_way_to_a_guest_takes_is_not_charged_to_the_share(
    machines: Machines, pause: float, sleep: str, verdict: str
) -> None:
    """A case's limit counts only the time that its calls take in the guest."""

    def body(share: Share) -> None:
        time.sleep(pause)
        share.inside.run(["sleep", sleep])
        sound(share)

    deployment = machines.attach()
    runner = Runner(load("attach"), deployment, "never", "main")
    deployment.start()
    try:
        judged = runner.run(made_case(body, seconds=0.9), "", DEFAULT, body)[0]
    finally:
        runner.stop()
    assert judged.verdict == verdict, judged.reason
    assert judged.reason == "" or "took more than its 1 s" in judged.reason


@contextlib.contextmanager
def running(machines: Machines) -> Iterator[Callable[[Callable[[Share], None]], CaseResult]]:
    """A run on the two machines; yields the function that judges one case."""
    (machines.share / "theirs").write_text("not the suite's")
    deployment = machines.attach()
    runner = Runner(load("attach"), deployment, "never", "main")
    deployment.start()
    try:
        yield lambda body: runner.run(made_case(body), "", DEFAULT, body)[0]
    finally:
        runner.stop()
    assert machines.left() == [machines.share / "theirs"]


def sound(share: Share) -> None:
    """The body of a case with a few calls."""
    share.inside.mkdir("d")
    share.inside.symlink("d", "link")


@pytest.mark.parametrize("which", ["guest", "host"])
def test_a_connection_that_is_cut_within_a_case_is_an_error_and_comes_back(machines: Machines, which: str) -> None:
    def body(share: Share) -> None:
        share.inside.mkdir("before")
        getattr(machines, which).cut()
        share.inside.mkdir("after")
        share.outside.lstat("after")

    with running(machines) as judged:
        lost = judged(body)
        assert lost.verdict == "error", lost.reason
        said = "the connection to guest was lost, and is back" if which == "guest" else "on host does not respond"
        assert said in lost.reason
        assert judged(sound).verdict == "pass"


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own is mounted")
def test_a_full_disk_of_the_host_is_an_error_until_there_is_room(machines: Machines) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "assay9-test", str(machines.share)], check=True)
    filler = machines.share / "filler"

    def body(share: Share) -> None:
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        share.inside.create("a", bytes(8192))

    try:
        with running(machines) as judged:
            full = judged(body)
            assert full.verdict == "error" and "No space left on device" in full.reason, full.reason
            filler.unlink()
            assert judged(sound).verdict == "pass"
    finally:
        subprocess.run(["umount", "-l", str(machines.share)], check=True)


def test_a_second_user_of_the_share_is_left_alone_and_changes_no_verdict(machines: Machines) -> None:
    ends, turns = threading.Event(), []

    def use() -> None:
        other = machines.share / "of-another"
        while not ends.is_set():
            other.mkdir()
            (other / "a").write_text("x")
            (other / "a").unlink()
            other.rmdir()
            turns.append(1)

    with running(machines) as judged:
        user = threading.Thread(target=use)
        user.start()
        try:
            verdicts = [judged(sound).verdict for _ in range(10)]
        finally:
            ends.set()
            user.join()
    assert verdicts == ["pass"] * 10 and turns


@pytest.mark.long
def test_a_round_trip_of_200_ms_changes_no_verdict(machines: Machines) -> None:
    with slow(machines.guest, 0.2), slow(machines.host, 0.2), running(machines) as judged:
        assert judged(sound).verdict == "pass"
