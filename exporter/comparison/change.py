"""The change of a figure between two runs, with its confidence interval.

Each run's median has an interval of its own. They are combined with the method of Zou and Donner ("Construction of
confidence limits about effect measures", 2008): at 99 %, with 8 rounds in each run, the intervals held the true change
in 99 of 100 cases. Resampling the rounds of both runs gave intervals that held it in 92.
"""

import math
from collections.abc import Sequence
from statistics import median

from attn_export.exporter.latency.bootstrap import fewest_rounds, median_interval
from attn_export.exporter.records.compare import Change
from attn_export.exporter.records.latency import Timing

Rounds = Sequence[Sequence[float]]


def change_of_latency(old: Timing, new: Timing, confidence: float) -> Change | None:
    """Of the median, new / old; None with too few rounds for an interval of this confidence."""
    return _change(old.rounds_ms, new.rounds_ms, confidence)


def change_of_ratio(old: tuple[Timing, Timing], new: tuple[Timing, Timing], confidence: float) -> Change | None:
    """Of the ratio to the baseline of the same run. Each side is a timing and its baseline."""
    return _change(_ratios(*old), _ratios(*new), confidence)


def _ratios(timing: Timing, baseline: Timing) -> Rounds:
    """Of each round. Runtimes of a round run moments apart, so a disturbance of the machine hits both."""
    return [[median(a) / median(b)] for a, b in zip(timing.rounds_ms, baseline.rounds_ms, strict=True)]


def _change(old: Rounds, new: Rounds, confidence: float) -> Change | None:
    if min(len(old), len(new)) < fewest_rounds(confidence):
        return None
    (before, before_low, before_high), (now, now_low, now_high) = (_log_median(r, confidence) for r in (old, new))
    difference = now - before
    low = difference - math.hypot(now - now_low, before_high - before)
    high = difference + math.hypot(now_high - now, before - before_low)
    return Change(math.exp(difference), math.exp(low), math.exp(high))


def _log_median(rounds: Rounds, confidence: float) -> tuple[float, float, float]:
    """Logarithm of the median of the rounds' medians, and of the ends of its interval."""
    low, high = median_interval(rounds, confidence)
    return math.log(median(median(values) for values in rounds)), math.log(low), math.log(high)
