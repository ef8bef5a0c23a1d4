"""The intervals, compared with published tables and with the coverage that they promise."""

from __future__ import annotations

import math
import random

import pytest

from conformance.performance.statistics import figure, for_each, paired, rounds_needed, unpaired


def test_a_constant_ratio_is_its_own_interval() -> None:
    found = paired([2.0] * 10, 0.99)
    assert (found.ratio, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))
    assert unpaired([3.0] * 6, [1.5] * 6, 0.99).ratio == pytest.approx(2.0)


def test_the_signed_rank_interval_cuts_what_the_tables_say() -> None:
    """Hollander & Wolfe, table A.4: n = 10, two-sided 95 %: 8 of the 55 means lie outside at either end."""
    values = [math.exp(value) for value in range(10)]
    means = sorted((a + b) / 2 for a in range(10) for b in range(a, 10))
    found = paired(values, 0.95)
    assert math.log(found.low) == pytest.approx(means[8])
    assert math.log(found.high) == pytest.approx(means[-9])


def test_the_rank_sum_interval_cuts_what_the_tables_say() -> None:
    """Mann and Whitney's critical value for 8 and 8, two-sided 5 %, is 13."""
    these, those = [math.exp(value) for value in range(8)], [math.exp(0.1 * value) for value in range(8)]
    steps = sorted(a - 0.1 * b for a in range(8) for b in range(8))
    found = unpaired(these, those, 0.95)
    assert math.log(found.low) == pytest.approx(steps[13])
    assert math.log(found.high) == pytest.approx(steps[-14])


def test_too_few_rounds_give_no_interval() -> None:
    assert paired([1.1] * 7, 0.99).high == math.inf
    assert paired([1.1] * 8, 0.99).high < math.inf
    assert rounds_needed(0.99) == 8
    assert "too few rounds" in str(paired([1.1], 0.99))


def test_the_default_rounds_are_enough_for_a_gate_over_fifty_measures() -> None:
    assert rounds_needed(for_each(0.99, 50)) <= 15


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_covers_the_truth_as_often_as_it_promises(confidence: float) -> None:
    """The seed is fixed, so chance plays no part. The noise has tails, and the true value is 1.5."""
    noise, tries = random.Random(1), 400
    held = 0
    for _ in range(tries):
        found = paired([1.5 * math.exp(0.1 * noise.gauss(0, 1) ** 3) for _ in range(10)], confidence)
        held += found.low <= 1.5 <= found.high
    assert held / tries >= confidence - 0.03


def test_one_round_in_which_the_host_was_busy_moves_nothing() -> None:
    quiet = paired([1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0, 1.0], 0.95)
    hit = paired([1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0, 40.0], 0.95)
    assert hit.ratio == pytest.approx(quiet.ratio, rel=0.02)


@pytest.mark.parametrize(("value", "shown"), [(0.0312, "0.0312"), (1.313, "1.31"), (131.4, "131"), (9876.0, "9876")])
def test_figures_have_three_digits(value: float, shown: str) -> None:
    assert figure(value) == shown
