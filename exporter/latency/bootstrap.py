"""Confidence intervals from rounds, without a word about how latencies are distributed: they aren't normal.

Rounds are drawn with replacement, in blocks of neighbours, because what disturbs a machine lasts for several of them.
Künsch: "The jackknife and the bootstrap for general stationary observations", 1989; circular as in Politis and Romano,
1992. Of few rounds, drawing makes intervals that are too narrow: of 8, those of 99 % held the median 88 times in 100.
So an interval of medians is at least what the order of the rounds says, which is exact for independent ones (Thompson,
"On confidence ranges for the median", 1936).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from attn_export.exporter.records.latency import CONFIDENCE, Interval

Rounds = Sequence[Sequence[float]]  # what each round's turn measured
Values = np.ndarray[Any, np.dtype[np.float64]]

RESAMPLES = 2000
SEED = 0
# At once, so that many rounds don't take much memory.
MOST_ELEMENTS = 2_000_000


def fewest_rounds(confidence: float = CONFIDENCE) -> int:
    """How many rounds it takes before any interval can be that certain.

    The smallest and the largest of n values have the median between them with probability 1 - 2^(1-n).
    """
    return math.ceil(1 - math.log2(1 - confidence))


def paired_ratio(rounds: Rounds, baseline: Rounds) -> float:
    """Median over the rounds of the ratio of the two medians of that round.

    Turns of a round are moments apart, so a drift of the machine's speed hits both sides of each ratio alike.
    """
    return float(np.exp(np.median(_log_ratios(rounds, baseline))))


def paired_interval(
    rounds: Rounds, baseline: Rounds, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """`paired_ratio` and where it lies.

    Args:
        rounds: what each round's turn measured, in any unit.
        baseline: the same rounds of what is compared with.
        confidence: of the interval, 0..1.
        resamples: how often the rounds are drawn.

    Returns:
        The ratio, and the ends of its interval.
    """
    ratios = _log_ratios(rounds, baseline)
    low, high = _ends_of_median(ratios, confidence, resamples)
    return float(np.exp(np.median(ratios))), math.exp(low), math.exp(high)


def median_interval(rounds: Rounds, confidence: float = CONFIDENCE, resamples: int = RESAMPLES) -> Interval:
    """Where the median of the rounds' medians lies."""
    return _ends_of_median(np.asarray([np.median(turn) for turn in rounds], np.float64), confidence, resamples)


def percentile_interval(
    rounds: Rounds, share: float, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> Interval:
    """Where a percentile of all inferences lies.

    Args:
        rounds: what each round's turn measured; the same number in each.
        share: 99 for the latency that one in a hundred exceeds.
        confidence: of the interval, 0..1.
        resamples: how often the rounds are drawn.
    """
    table = np.asarray(rounds, np.float64)

    def percentiles(drawn: Values) -> Values:
        return np.asarray(np.percentile(drawn.reshape(len(drawn), -1), share, axis=1), np.float64)

    return _ends(_resampled(table, percentiles, resamples), confidence)


def half_width(estimate: float, low: float, high: float) -> float:
    """Of an interval, relative to what it is of."""
    return (high - low) / 2 / estimate


def _log_ratios(rounds: Rounds, baseline: Rounds) -> Values:
    return np.log([np.median(a) / np.median(b) for a, b in zip(rounds, baseline, strict=True)])


def _medians(drawn: Values) -> Values:
    return np.asarray(np.median(drawn, axis=1), np.float64)


def _resampled(values: Values, statistic: Callable[[Values], Values], resamples: int) -> Values:
    """A statistic of rounds that were drawn anew; of the same rounds always the same.

    Args:
        values: (rounds, ...).
        statistic: of (draws, rounds, ...), one number for each draw.
        resamples: how many draws.
    """
    draw, count = np.random.default_rng(SEED), len(values)
    length = max(1, round(math.sqrt(count)))
    at_once = max(1, MOST_ELEMENTS // max(1, values.size))
    made = []
    for begin in range(0, resamples, at_once):
        starts = draw.integers(0, count, (min(at_once, resamples - begin), -(-count // length), 1))
        places = (starts + np.arange(length)) % count
        made.append(statistic(values[places.reshape(len(starts), -1)[:, :count]]))
    return np.concatenate(made)


def _ends_of_median(values: Values, confidence: float, resamples: int) -> Interval:
    """As drawing says, and at least as wide as the order says."""
    low, high = _ends(_resampled(values, _medians, resamples), confidence)
    ordered, cut = np.sort(values), _cut(len(values), confidence)
    return min(low, float(ordered[cut])), max(high, float(ordered[-1 - cut]))


def _cut(count: int, confidence: float) -> int:
    """How many values to leave out on either side so that the median is still among the others with that confidence."""
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
