"""Distribution-free confidence intervals from rounds, by a circular block bootstrap.

Blocks, because disturbances of a machine last for several rounds: Künsch, "The jackknife and the bootstrap for general
stationary observations", 1989; circular as in Politis and Romano, 1992. With few rounds bootstrap intervals are too
narrow: with 8, those of 99 % covered the median in 88 % of cases. So an interval of medians is at least as wide as that
of the order statistics, which is exact for independent rounds (Thompson, "On confidence ranges for the median", 1936).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from attn_export.exporter.records.latency import CONFIDENCE, Interval

Rounds = Sequence[Sequence[float]]  # the times of each round
Values = np.ndarray[Any, np.dtype[np.float64]]

RESAMPLES = 2000
SEED = 0
# Limits the memory of many rounds.
MOST_ELEMENTS = 2_000_000


def fewest_rounds(confidence: float = CONFIDENCE) -> int:
    """The fewest rounds with a nontrivial interval.

    The minimum and maximum of n values enclose the median with probability 1 - 2^(1-n).
    """
    return math.ceil(1 - math.log2(1 - confidence))


def paired_interval(
    rounds: Rounds, baseline: Rounds, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """The median over rounds of the ratio of the two medians of a round, with its confidence interval.

    Both sides of each ratio are measured moments apart, so drifts of the machine's speed cancel.

    Returns:
        (ratio, low, high).
    """
    ratios = _log_ratios(rounds, baseline)
    low, high = _ends_of_median(ratios, confidence, resamples)
    return float(np.exp(np.median(ratios))), math.exp(low), math.exp(high)


def median_interval(rounds: Rounds, confidence: float = CONFIDENCE, resamples: int = RESAMPLES) -> Interval:
    """The confidence interval of the median of the rounds' medians."""
    return _ends_of_median(np.asarray([np.median(turn) for turn in rounds], np.float64), confidence, resamples)


def percentile_interval(
    rounds: Rounds, share: float, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> Interval:
    """The confidence interval of a percentile of all inferences.

    Every round has the same number of times; a share of 99 is the latency that one in a hundred exceeds.
    """
    table = np.asarray(rounds, np.float64)

    def percentiles(drawn: Values) -> Values:
        return np.asarray(np.percentile(drawn.reshape(len(drawn), -1), share, axis=1), np.float64)

    return _ends(_resampled(table, percentiles, resamples), confidence)


def half_width(estimate: float, low: float, high: float) -> float:
    """Half the width of an interval, relative to the estimate."""
    return (high - low) / 2 / estimate


def _log_ratios(rounds: Rounds, baseline: Rounds) -> Values:
    return np.log([np.median(a) / np.median(b) for a, b in zip(rounds, baseline, strict=True)])


def _resampled(values: Values, statistic: Callable[[Values], Values], resamples: int) -> Values:
    """A statistic, (resamples, rounds, ...) to (resamples,), of resampled rounds (rounds, ...); deterministic."""
    draw, count = np.random.default_rng(SEED), len(values)
    length = max(1, round(math.sqrt(count)))
    at_once = max(1, MOST_ELEMENTS // max(1, values.size))
    statistics = []
    for begin in range(0, resamples, at_once):
        starts = draw.integers(0, count, (min(at_once, resamples - begin), -(-count // length), 1))
        places = (starts + np.arange(length)) % count
        statistics.append(statistic(values[places.reshape(len(starts), -1)[:, :count]]))
    return np.concatenate(statistics)


def _ends_of_median(values: Values, confidence: float, resamples: int) -> Interval:
    """The bootstrap interval, at least as wide as that of the order statistics."""
    low, high = _ends(
        _resampled(values, lambda drawn: np.asarray(np.median(drawn, axis=1), np.float64), resamples), confidence
    )
    ordered, cut = np.sort(values), _cut(len(values), confidence)
    return min(low, float(ordered[cut])), max(high, float(ordered[-1 - cut]))


def _cut(count: int, confidence: float) -> int:
    """The number of extreme values on either side that the order-statistics interval leaves out."""
    beyond, ways, most = 0, 1, int((1 - confidence) / 2 * 2**60) * 2**count >> 60
    for left_out in range(count // 2):
        beyond += ways
        if beyond > most:
            return max(0, left_out - 1)
        ways = ways * (count - left_out) // (left_out + 1)
    return max(0, count // 2 - 1)


def _ends(drawn: Values, confidence: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
