"""Lines of the reference server that random messages reach in their first 6,000 requests, with and without guidance.

    sudo .venv/bin/python benchmarks/line_guidance.py [--seeds N] [--requests N] [--twice]

Each seed is played with and without guidance, alternately, on one server. The output is both numbers for each seed, and
the ratio of their sums; those that only the start of the server reaches are not counted. `--twice` plays each seed
with guidance once more, and ends with status 1 unless it makes the same requests.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from assay9.explore import at_the_wire
from conformance.case import CASES
from conformance.model.corpus import Corpus
from conformance.model.protocol import Ask
from conformance.raw.wire import Wire
from conformance.run.sequences import REQUESTS, LinesSeen, WireExploration

STEPS = 50


def played(exploration: WireExploration, seed: int, count: int, *, guided: bool) -> tuple[int, list[Sequence[Ask]]]:
    """The lines that a seed reaches in its first `count` requests, and its sequences."""
    lines, made = exploration.lines, list[Sequence[Ask]]()
    if not isinstance(lines, LinesSeen):
        raise SystemExit("the server does not write its lines down")

    def body(wire: Wire) -> None:
        corpus = Corpus(seed, STEPS, guided=guided)
        player = exploration.player(wire, corpus)
        while (left := count - player.met.total()) > 0:
            made.append(corpus.following()[:left])
            player.play(made[-1])

    result, raised = exploration.runner.run_item(CASES[REQUESTS], str(seed), body, {})
    if raised is not None:
        raise SystemExit(f"seed {seed}: {result.reason}")
    return len(lines.now), made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--twice", action="store_true")
    asked = parser.parse_args()
    rows: list[tuple[int, int]] = []
    with at_the_wire("reference", {}, guided=True) as exploration:
        for seed in range(1, asked.seeds + 1):
            without, _ = played(exploration, seed, asked.requests, guided=False)
            with_, made = played(exploration, seed, asked.requests, guided=True)
            rows.append((without, with_))
            if asked.twice and played(exploration, seed, asked.requests, guided=True)[1] != made:
                sys.exit(f"seed {seed} makes other requests the second time")
    print(*(f"{without}/{with_}" for without, with_ in rows))
    without, with_ = (sum(column) for column in zip(*rows, strict=True))
    print(f"without {without / len(rows):.1f}, with {with_ / len(rows):.1f}: {with_ / without:.3f} times as many")


if __name__ == "__main__":
    main()
