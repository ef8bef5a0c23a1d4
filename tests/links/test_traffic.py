"""A short spell of random ring traffic; benchmarks/results/device.md has the long one."""

from __future__ import annotations

from pathlib import Path

from tests.links.traffic import run


def test_random_ring_traffic(tmp_path: Path) -> None:
    looks, counts = run(tmp_path, seed=7, spells=lambda spell: spell < 2, lives=20)
    assert len(looks) == 2
    assert counts["lives"] == 120
    for name in ("Rattach", "Rwalk", "EBADF", "nothing", "in_flight", "ill_made", "misplaced", "rude", "broken"):
        assert counts[name], name
