"""Random calls of one process on files, directories, links and attributes, with and without concurrent changes by the
host.
"""

from __future__ import annotations

import pytest

from conformance.case import case
from conformance.checks import report_all
from conformance.vfs.sequences import Player
from conformance.vfs.share import Share
from protocol.messages import (
    Tgetattr,
    Tlcreate,
    Tlock,
    Tlopen,
    Tmkdir,
    Tread,
    Trenameat,
    Tunlinkat,
    Twalk,
    Twrite,
)

EXAMPLES, STEPS = 30, 50
"""Sequences for one seed, and calls in one at most: some seconds in a guest under emulation."""
SEEDS = range(1, 5)
FRESH = ("none", "readahead")
"""Cache modes in which the guest asks the server each time, so that it sees what the host changes."""


@pytest.mark.parametrize("seed", SEEDS)
@case(
    "CALLS-001",
    covers=[Twalk, Tgetattr, Tlopen, Tlcreate, Twrite, Tmkdir, Tunlinkat, Trenameat],
    caches=FRESH,
    seconds=600,
)
def test_calls_with_the_host_beside(share: Share, seed: int) -> None:
    """Whatever calls a process makes, and whatever names the host makes, moves and removes meanwhile, each call ends as
    POSIX and Linux's VFS allow, and inside and outside show the same tree: names, attributes, content, links.
    Source: POSIX.1-2017, the page of each call; Linux fs/namei.c, fs/open.c; Ridge et al., SibylFS, SOSP 2015."""
    played(share, seed, outside=True)


@pytest.mark.parametrize("seed", SEEDS)
@case("CALLS-002", covers=[Twalk], cached_too=True, seconds=600)
def test_calls_of_the_guest_alone(share: Share, seed: int) -> None:
    """Whatever calls a process makes, in every cache mode, each ends as POSIX and Linux's VFS allow, and the guest sees
    the tree that its calls have made.
    Source: POSIX.1-2017, the page of each call; Linux fs/namei.c, fs/open.c; Ridge et al., SibylFS, SOSP 2015."""
    played(share, 100 + seed, outside=False)


@pytest.mark.parametrize("seed", SEEDS[:2])
@case("CALLS-003", covers=[Twalk, Tlock, Tread], caches=FRESH, seconds=600)
def test_calls_of_two_processes_with_the_host_beside(share: Share, seed: int) -> None:
    """Whatever calls two processes of the guest make on the same files, their record locks and mappings included, and
    whatever the host does to names meanwhile, each call ends as POSIX and Linux's VFS allow, and inside and outside
    show the same tree.
    Source: POSIX.1-2017, the page of each call, fcntl (F_SETLK) and mmap; Ridge et al., SibylFS, SOSP 2015."""
    played(share, 200 + seed, outside=True, together=True)


def played(share: Share, seed: int, *, outside: bool, together: bool = False) -> None:
    """Play random sequences. Findings are declared deviations and the shortest sequence that is not allowed."""
    player = Player(share, outside=outside, together=together)
    found = player.search(seed, examples=EXAMPLES, steps=STEPS)
    report_all([*player.deviations.values(), *([found] if found is not None else [])])
