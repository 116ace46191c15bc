"""Numbers that come of rounds, and how sure they are."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attn_export.exporter.latency.bootstrap import (
    fewest_rounds,
    half_width,
    paired_interval,
    percentile_interval,
)
from attn_export.exporter.latency.statistics import percentile_ms
from attn_export.exporter.records.latency import CANT_TELL, FASTER, RESOLUTION, SLOWER, verdict_of

SECONDS = st.floats(min_value=1e-6, max_value=1e3)
TURNS = st.lists(SECONDS, min_size=1, max_size=5)
ROUNDS = st.lists(st.tuples(TURNS, TURNS), min_size=1, max_size=12)


@given(st.lists(SECONDS, min_size=1, max_size=50))
def test_percentiles_are_milliseconds_between_smallest_and_largest(seconds: list[float]) -> None:
    p0, p50, p90, p99, p100 = (percentile_ms(seconds, share) for share in (0, 50, 90, 99, 100))
    assert p0 == pytest.approx(min(seconds) * 1e3)
    assert p100 == pytest.approx(max(seconds) * 1e3)
    slack = 1 + 1e-9
    assert p0 <= p50 * slack <= p90 * slack**2 <= p99 * slack**3 <= p100 * slack**4


def test_percentiles_of_known_numbers() -> None:
    seconds = [i / 1000 for i in range(101)]
    assert [percentile_ms(seconds, share) for share in (50, 90, 99)] == pytest.approx([50, 90, 99])


def paired_ratio(rounds: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]]) -> float:
    return paired_interval(rounds, baseline, resamples=1)[0]


@given(ROUNDS)
def test_something_takes_as_long_as_itself(rounds: list[tuple[list[float], list[float]]]) -> None:
    own = [a for a, _ in rounds]
    assert paired_ratio(own, own) == pytest.approx(1.0)


@given(ROUNDS, st.floats(min_value=0.01, max_value=100))
def test_the_ratio_scales_with_the_times(rounds: list[tuple[list[float], list[float]]], factor: float) -> None:
    a, b = [a for a, _ in rounds], [b for _, b in rounds]
    scaled = [[s * factor for s in turn] for turn in a]
    assert paired_ratio(scaled, b) == pytest.approx(factor * paired_ratio(a, b))


@given(ROUNDS, st.lists(st.floats(min_value=0.01, max_value=100), min_size=12, max_size=12))
def test_a_drift_that_hits_both_sides_of_a_round_does_not_count(
    rounds: list[tuple[list[float], list[float]]], drift: list[float]
) -> None:
    a, b = [a for a, _ in rounds], [b for _, b in rounds]
    drifted_a = [[s * d for s in turn] for turn, d in zip(a, drift, strict=False)]
    drifted_b = [[s * d for s in turn] for turn, d in zip(b, drift, strict=False)]
    assert paired_ratio(drifted_a, drifted_b) == pytest.approx(paired_ratio(a, b))


def test_one_bad_round_does_not_move_the_ratio() -> None:
    assert paired_ratio([[2.0], [2.0], [900.0]], [[1.0], [1.0], [1.0]]) == pytest.approx(2.0)


def test_rounds_without_a_partner_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_ratio([[1.0], [1.0]], [[1.0]])


# Intervals.


@given(ROUNDS)
def test_the_ratio_lies_in_its_interval_between_the_smallest_and_the_largest(
    rounds: list[tuple[list[float], list[float]]],
) -> None:
    a, b = [a for a, _ in rounds], [b for _, b in rounds]
    ratios = [np.median(x) / np.median(y) for x, y in rounds]
    ratio, low, high = paired_interval(a, b, resamples=300)
    slack = 1 + 1e-9
    assert min(ratios) <= low * slack <= ratio * slack**2 <= high * slack**3 <= max(ratios) * slack**4


@given(ROUNDS)
def test_the_same_rounds_have_the_same_interval(rounds: list[tuple[list[float], list[float]]]) -> None:
    a, b = [a for a, _ in rounds], [b for _, b in rounds]
    assert paired_interval(a, b, resamples=100) == paired_interval(a, b, resamples=100)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_intervals_hold_the_truth_about_as_often_as_they_say(confidence: float) -> None:
    """Rounds whose noise lasts: half of what disturbs each disturbs the next."""
    draw = np.random.default_rng(7)
    held = 0
    for _ in range(200):
        disturbance = np.zeros(60)
        for i in range(1, 60):
            disturbance[i] = 0.5 * disturbance[i - 1] + draw.standard_t(3) * 0.02
        shared = np.exp(draw.normal(0, 0.3, 60))
        b = [[float(s)] for s in shared]
        a = [[float(1.2 * s * math.exp(d))] for s, d in zip(shared, disturbance, strict=True)]
        _, low, high = paired_interval(a, b, confidence, resamples=400)
        held += low <= 1.2 <= high
    assert confidence - 0.1 <= held / 200


def test_more_rounds_are_surer() -> None:
    draw = np.random.default_rng(3)

    def width(count: int) -> float:
        a = [[x] for x in draw.lognormal(0, 0.2, count)]
        return half_width(*paired_interval(a, [[1.0]] * count))

    assert width(400) < width(100) < width(20)


def test_a_percentile_lies_in_its_interval() -> None:
    draw = np.random.default_rng(5)
    rounds = draw.lognormal(0, 0.5, (100, 3)).tolist()
    flat = [s for turn in rounds for s in turn]
    for share in (50, 99):
        low, high = percentile_interval(rounds, share)
        assert low <= percentile_ms(flat, share) / 1e3 <= high
    assert percentile_interval(rounds, 50)[1] < percentile_interval(rounds, 99)[0]


@pytest.mark.parametrize(("confidence", "rounds"), [(0.5, 2), (0.9, 5), (0.95, 6), (0.99, 8)])
def test_an_interval_needs_rounds(confidence: float, rounds: int) -> None:
    assert fewest_rounds(confidence) == rounds


# Verdicts.


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.02, 1.1, SLOWER),
        (0.8, 0.98, FASTER),
        (0.97, 1.03, CANT_TELL),
        (0.5, 2.0, CANT_TELL),
        (1.001, 1.005, CANT_TELL),
        (1.005, 1.2, CANT_TELL),
        (0.995, 0.999, CANT_TELL),
    ],
)
def test_what_an_interval_says(low: float, high: float, verdict: str) -> None:
    assert verdict_of(low, high) == verdict


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_claim_is_never_about_less_than_the_resolution(one: float, other: float) -> None:
    low, high = sorted((one, other))
    verdict = verdict_of(low, high)
    assert (verdict == SLOWER) == (low > 1 + RESOLUTION)
    assert (verdict == FASTER) == (high < 1 - RESOLUTION)
