"""Random sequences on a share that deviates: what is found and shortened, and what is judged after a declared fault."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from conformance.errors import Finding
from conformance.model.step import Step
from conformance.vfs.mount_options import DEFAULT
from conformance.vfs.pending import Pending
from conformance.vfs.sequences import Player
from conformance.vfs.share import Share
from guests.agent.payload import sequences as agent

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the model is root's: permissions are not checked")


@dataclass
class Side:
    """A vantage that plays sequences in a directory of this host.

    Calls in `refuses` are not made and fail with ENOENT; calls in `short` report one byte more than they wrote.
    """

    name: str
    root: Path
    refuses: frozenset[str] = frozenset()
    short: frozenset[str] = frozenset()

    @property
    def quietly(self) -> Side:
        return self

    def play(self, name: str, calls: list[list[Any]], fresh: bool, xattrs: bool, look: bool = True) -> list[Any]:
        path = os.fsencode(self.root / name)
        made = [call for call in calls if call[0] not in self.refuses]
        outcomes, seen = agent.play(path, made, fresh, xattrs, look)
        for call, outcome in zip(made, outcomes, strict=True):
            if call[0] in self.short and not outcome[1]:
                outcome[0] += 1
        left = iter(outcomes)
        return [[[None, "ENOENT"] if call[0] in self.refuses else next(left) for call in calls], seen]

    @property
    def quietly_then(self) -> Begun:
        return Begun(self)

    def survey(self, name: str, xattrs: bool) -> dict[str, dict[str, Any]]:
        return agent.survey(os.fsencode(self.root / name), xattrs)


@dataclass
class Begun:
    """Calls that are made when they are waited for."""

    side: Side

    def play(self, *args: Any, **named: Any) -> Pending[list[Any]]:
        return Pending(lambda _: True, partial(self.side.play, *args, **named))


@dataclass
class Stands:
    declares: Callable[[Finding], bool]
    features: frozenset[str] = frozenset()
    sides: str = "both"


@dataclass
class FakeShare:
    inside: Side
    outside: Side
    mounted: Stands
    mount: Any = DEFAULT
    host_links: bool = True
    found: list[Finding] = field(default_factory=list)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)
    agent.close_slots()


def player(inside: Side, declares: Callable[[Finding], bool]) -> Player:
    share = FakeShare(inside, Side("outside", inside.root), Stands(declares))
    return Player(cast(Share, share), outside=True)


def nothing(_finding: Finding) -> bool:
    return False


@pytest.mark.usefixtures("umask")
def test_nothing_is_found_where_nothing_deviates(tmp_path: Path) -> None:
    assert player(Side("inside", tmp_path), nothing).search(1, examples=10, steps=30) is None


@pytest.mark.usefixtures("umask")
def test_the_shortest_sequence_is_shown(tmp_path: Path) -> None:
    side = Side("inside", tmp_path, refuses=frozenset({"fchmod"}))
    found = player(side, nothing).search(1, examples=30, steps=40)
    assert found is not None
    assert found.code == "errno"
    assert (found.values["call"], found.values["seen"]) == ("fchmod", "ENOENT")
    _said, *steps = str(found).splitlines()
    assert len(steps) == 2, steps
    assert "open(" in steps[0]
    assert "fchmod(" in steps[1]


@pytest.mark.usefixtures("umask")
def test_a_declared_deviation_hides_nothing_behind_it(tmp_path: Path) -> None:
    def declares(finding: Finding) -> bool:
        return finding.code == "errno" and finding.values["call"] == "fchmod"

    made = player(Side("inside", tmp_path, frozenset({"fchmod"}), frozenset({"pwrite"})), declares)
    steps = [
        Step("open", ("a", os.O_RDWR | os.O_CREAT, 0o600), 0),
        Step("fchmod", (0o755,), 0),
        Step("lstat", ("a",)),
        Step("pwrite", (b"x", 0), 0),
    ]
    with pytest.raises(Finding, match="pwrite") as found:
        made.play(steps)
    assert found.value.code == "value"
    assert [one.values["call"] for one in made.deviations.values()] == ["fchmod"]


@pytest.mark.usefixtures("umask")
def test_a_tree_that_a_declared_deviation_has_changed_is_not_charged_to_later_calls(tmp_path: Path) -> None:
    """The call succeeds, but the file has other mode bits than requested: declared for that call only."""

    class Wrong(Side):
        def play(self, name: str, calls: list[list[Any]], fresh: bool, xattrs: bool, look: bool = True) -> list[Any]:
            asked = [[op, slot, [0o400] if op == "fchmod" else operands] for op, slot, operands in calls]
            return super().play(name, asked, fresh, xattrs, look)

    def declares(finding: Finding) -> bool:
        return finding.code == "field:mode" and finding.values["call"] == "fchmod"

    made = player(Wrong("inside", tmp_path), declares)
    made.play(
        [
            Step("open", ("a", os.O_RDWR | os.O_CREAT, 0o600), 0),
            Step("fchmod", (0o755,), 0),
            Step("lstat", ("a",)),
            Step("mkdir", ("b", 0o755), where="outside"),
            Step("rmdir", ("b",)),
        ]
    )
    assert [one.values["call"] for one in made.deviations.values()] == ["fchmod"]


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("declared", [True, False])
def test_a_directory_that_cannot_be_removed_is_a_finding_and_the_next_sequence_has_another(
    tmp_path: Path, declared: bool
) -> None:
    class Sticks(Side):
        def play(self, name: str, calls: list[list[Any]], fresh: bool, xattrs: bool, look: bool = True) -> list[Any]:
            if fresh and (self.root / name).exists():
                raise OSError(errno.ENOTEMPTY, "hidden names are left")
            return super().play(name, calls, fresh, xattrs, look)

    made = player(Sticks("inside", tmp_path), lambda finding: declared and finding.values["call"] == "rmtree")
    steps = [Step("mkdir", ("a", 0o755))]
    made.play(steps)
    if declared:
        made.play(steps)
        assert [one.values["seen"] for one in made.deviations.values()] == ["ENOTEMPTY"]
    else:
        with pytest.raises(Finding, match="cannot be removed"):
            made._played(steps, each=False)


@pytest.mark.usefixtures("umask")
def test_a_change_that_outside_does_not_see_is_found(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for side in (inside, outside):
        (side / "sequence").mkdir(parents=True)
    share = FakeShare(Side("inside", inside), Side("outside", outside), Stands(nothing))
    found = Player(cast(Share, share), outside=True).search(1, examples=10, steps=20)
    assert found is not None
    assert found.code == "exists"
    assert found.values["vantage"] == "outside"
