"""Workers of one run in one guest share a mount: the first makes it, the last removes it. Also: what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.errors import UsageError
from conformance.run.preflight import check
from conformance.run.request import Request
from conformance.sut.attach.together import Together
from conformance.sut.load import load


def test_the_last_one_that_leaves_knows_it(tmp_path: Path) -> None:
    first, second, third = (Together(tmp_path) for _ in range(3))
    assert first.name == second.name != Together(tmp_path / "another").name
    with first.turn():
        first.join()
        first.join()  # mounted again after a reboot of the guest
    with second.turn():
        second.join()
    assert not third.leave(), "it has mounted nothing, and unmounts nothing"
    with first.turn():
        assert not first.leave()
    with second.turn():
        assert second.leave() and not second.leave()


@pytest.mark.parametrize(
    ("words", "layers", "said"),
    [
        (
            {"allow": ("remount",)},
            (),
            "--jobs 2: --allow remount needs the mount of the share for itself: leave --jobs",
        ),
        (
            {"allow": ("guest-pci",)},
            ("wire",),
            "--jobs 2: layer wire needs the share's device for itself: leave --jobs",
        ),
    ],
)
def test_what_needs_the_mount_for_itself_has_one_job(
    words: dict[str, tuple[str, ...]], layers: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    options = {"guest": "root@vm", "outside": "/srv/share", "tag": "share0", **words}
    with pytest.raises(UsageError, match=said):
        check(Request(target=load("attach"), options=options, layers=layers, jobs=2, results=tmp_path / "results"))
