"""Pairs of operation and state that random sequences cover in their first 1,000 calls, with and without guidance.

    .venv/bin/python benchmarks/sequence_guidance.py [--seeds N]

The sequences of the seeds 1 to N are generated, not executed: their coverage depends on the model alone and is the
same on every machine. The output is both numbers for each seed, generated alternately, and the ratio of their sums.
"""

from __future__ import annotations

import argparse
from collections import Counter

from conformance.model.generate import Pair, pairs
from conformance.model.guided import generated

CALLS, STEPS = 1000, 50


def met(number: int, *, together: bool, guided: bool) -> int:
    """Pairs that the sequences of a seed cover."""
    found = Counter[Pair]()
    for steps in generated(number, CALLS, STEPS, together=together, guided=guided):
        found.update(pairs(steps[: CALLS - found.total()]))
        if found.total() >= CALLS:
            break
    return len(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(1, parser.parse_args().seeds + 1)
    for together in (False, True):
        rows = [(met(one, together=together, guided=False), met(one, together=together, guided=True)) for one in seeds]
        print("two processes:" if together else "one process:", *(f"{without}/{with_}" for without, with_ in rows))
        without, with_ = (sum(column) for column in zip(*rows, strict=True))
        print(f"  without {without / len(rows):.1f}, with {with_ / len(rows):.1f}: {with_ / without:.2f} times as many")


if __name__ == "__main__":
    main()
