"""How far a figure of one run is from the same of another, and how certain that is.

Each run's median has an interval of its own. They are joined as Zou and Donner do ("Construction of confidence limits
about effect measures", 2008): at 99 %, of 8 rounds each, these held the truth 99 times in 100. Drawing the rounds of
both runs anew gave intervals that held it 92 times.
"""

import math
from collections.abc import Sequence
from statistics import median

from attn_export.exporter.latency.bootstrap import fewest_rounds, median_interval
from attn_export.exporter.records.compare import Change
from attn_export.exporter.records.latency import Timing

Rounds = Sequence[Sequence[float]]


def change_of_latency(old: Timing, new: Timing, confidence: float) -> Change | None:
    """Of the median, new divided by old; None where there are too few rounds for any interval that certain."""
    return _change(old.rounds_ms, new.rounds_ms, confidence)


def change_of_ratio(old: tuple[Timing, Timing], new: tuple[Timing, Timing], confidence: float) -> Change | None:
    """The same of the ratio to the baseline of the same run.

    Args:
        old: a timing and its baseline.
        new: the same of the new run.
        confidence: of the interval, 0..1.
    """
    return _change(_ratios(*old), _ratios(*new), confidence)


def _ratios(timing: Timing, baseline: Timing) -> Rounds:
    """Of each round; its turns are moments apart, so whatever the machine does hits both."""
    return [[median(a) / median(b)] for a, b in zip(timing.rounds_ms, baseline.rounds_ms, strict=True)]


def _change(old: Rounds, new: Rounds, confidence: float) -> Change | None:
    if min(len(old), len(new)) < fewest_rounds(confidence):
        return None
    (was, was_low, was_high), (now, now_low, now_high) = (_log_median(rounds, confidence) for rounds in (old, new))
    apart = now - was
    low = apart - math.hypot(now - now_low, was_high - was)
    high = apart + math.hypot(now_high - now, was - was_low)
    return Change(math.exp(apart), math.exp(low), math.exp(high))


def _log_median(rounds: Rounds, confidence: float) -> tuple[float, float, float]:
    """Logarithm of the median of the rounds' medians, and where it lies."""
    low, high = median_interval(rounds, confidence)
    return math.log(median(median(turn) for turn in rounds)), math.log(low), math.log(high)
