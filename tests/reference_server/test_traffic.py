"""A short spell of random traffic; benchmarks/results/reference-server.md has the long one."""

from __future__ import annotations

from pathlib import Path

from tests.reference_server.served import limited
from tests.reference_server.traffic import Generator, Look, growth, run


def test_random_traffic(tmp_path: Path) -> None:
    looks, answers = run(tmp_path, seed=7, spells=lambda sent: sent < 16_000, bursts=120)
    assert len(looks) >= 2
    assert sum(answers.values()) > 5000
    for name in ("EBADF", "Rwalk", "Rlcreate", "Rwrite", "Rread", "Rgetattr", "Rreaddir", "Rmkdir", "Rrenameat"):
        assert answers[name], name


def test_random_traffic_with_few_descriptors(tmp_path: Path) -> None:
    """The store constantly gives up and reopens descriptors of files that are not open."""
    _looks, answers = run(tmp_path, 8, lambda sent: sent < 8_000, 120, before=limited(90), options=["--mapped"])
    assert answers["Rwalk"] and answers["Rgetattr"] and answers["Runlinkat"], answers


def test_growth_is_seen() -> None:
    """Memory allocated once is not a leak; continued growth is."""
    assert growth([Look(1, 1, size) for size in (1, 900, *[1000] * 8)]) == 0
    assert growth([Look(1, 1, 10 * number) for number in range(100)]) == 600


def test_the_same_seed_sends_the_same_bytes() -> None:
    def sent(seed: str) -> list[bytes]:
        generator = Generator(seed, b"/decoy")
        return [*generator.opening(), *(generator.burst() for _ in range(50))]

    assert sent("1 0") == sent("1 0")
    assert sent("1 0") != sent("1 1")
