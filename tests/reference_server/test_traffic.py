"""A short spell of random traffic; docs/reference-server.md tells of the long one."""

from __future__ import annotations

from tests.reference_server.traffic import run


def test_random_traffic() -> None:
    looks, answers = run(seconds=6, seed=7, between=2)
    assert len(looks) == 3
    assert sum(answers.values()) > 1000
    for name in ("EBADF", "Rwalk", "Rlcreate", "Rwrite", "Rread", "Rgetattr", "Rreaddir", "Rmkdir", "Rrenameat"):
        assert answers[name], name
