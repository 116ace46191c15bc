"""How far a figure moved, and how certain that is."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from attn_export.exporter.comparison.change import change_of_latency, change_of_ratio
from attn_export.exporter.latency.bootstrap import fewest_rounds
from attn_export.exporter.records.compare import Change
from attn_export.exporter.records.latency import Timing
from tests.budgets.sample import CONFIDENCE, sample_rounds, sample_timing

LEAST = fewest_rounds(CONFIDENCE)
counts = st.integers(LEAST, 40)
factors = st.floats(0.1, 10)
TIMING = sample_timing("eager", 3.0)


def timed(rounds: Sequence[Sequence[float]], factor: float = 1.0) -> Timing:
    scaled = tuple(tuple(factor * value for value in values) for values in rounds)
    return structs.replace(TIMING, rounds_ms=scaled)


def latency(old: Timing, new: Timing, confidence: float = CONFIDENCE) -> Change:
    change = change_of_latency(old, new, confidence)
    assert change is not None
    return change


@settings(max_examples=25, deadline=None)
@given(counts, counts, factors, st.integers(0, 1000))
def test_the_estimate_follows_the_latencies_and_lies_in_its_interval(
    before: int, now: int, factor: float, seed: int
) -> None:
    old, new = timed(sample_rounds(3, rounds=before, seed=seed)), sample_rounds(3, rounds=now, seed=seed + 1)
    plain, scaled = latency(old, timed(new)), latency(old, timed(new, factor))
    assert plain.low <= plain.estimate <= plain.high
    for end in ("estimate", "low", "high"):
        assert getattr(scaled, end) == pytest.approx(factor * getattr(plain, end))


@settings(max_examples=25, deadline=None)
@given(counts, counts, st.integers(0, 1000))
def test_the_other_way_round_it_is_the_reciprocal(before: int, now: int, seed: int) -> None:
    old, new = timed(sample_rounds(3, rounds=before, seed=seed)), timed(sample_rounds(4, rounds=now, seed=seed + 1))
    there, back = latency(old, new), latency(new, old)
    assert back.estimate == pytest.approx(1 / there.estimate)
    assert (back.low, back.high) == pytest.approx((1 / there.high, 1 / there.low))


@pytest.mark.parametrize("count", [1, LEAST - 1])
def test_too_few_rounds_have_no_interval(count: int) -> None:
    few, many = timed(sample_rounds(3, rounds=count)), timed(sample_rounds(3, rounds=40))
    assert change_of_latency(few, many, CONFIDENCE) is None
    assert change_of_latency(many, few, CONFIDENCE) is None
    assert change_of_ratio((few, few), (many, many), CONFIDENCE) is None


def test_without_noise_there_is_no_doubt() -> None:
    old, new = timed([[3.0]] * 50), timed([[6.0]] * 50)
    change = latency(old, new)
    assert (change.estimate, change.low, change.high) == pytest.approx((2, 2, 2))


def test_noise_and_certainty_make_it_wider() -> None:
    def width(noise: float, confidence: float) -> float:
        old, new = (timed(sample_rounds(3, noise=noise, rounds=40, seed=seed)) for seed in (1, 2))
        change = latency(old, new, confidence)
        return change.high - change.low

    assert width(0.1, 0.99) > width(0.02, 0.99) > width(0.02, 0.8)


def test_a_drift_of_the_machine_cancels_in_the_ratio() -> None:
    """Every round of the new run is slower than the one before it, of both runtimes alike."""
    eager, file = sample_rounds(10, seed=1), sample_rounds(3, seed=2)
    drifted = [[[value * 1.02**i for value in turn] for i, turn in enumerate(side)] for side in (eager, file)]
    change = change_of_ratio((timed(file), timed(eager)), (timed(drifted[1]), timed(drifted[0])), CONFIDENCE)
    assert change is not None
    assert change.estimate == pytest.approx(1)
    assert latency(timed(file), timed(drifted[1])).low > 1.1


@pytest.mark.parametrize(("rounds", "noise"), [(8, 0.03), (25, 0.03), (25, 0.2)])
def test_the_interval_holds_the_truth_as_often_as_it_says(rounds: int, noise: float) -> None:
    """100 pairs of runs of the same: at 95 % at most 12 may miss, which luck exceeds once in a thousand times."""
    draw = random.Random(rounds)
    missed = 0
    for _ in range(100):
        old, new = (timed([[3 * draw.lognormvariate(0, noise)] for _ in range(rounds)]) for _ in range(2))
        change = latency(old, new, 0.95)
        missed += not change.low <= 1 <= change.high
    assert missed <= 12
