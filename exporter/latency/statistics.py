"""Statistics of the rounds of a timing."""

from collections.abc import Sequence

import numpy as np

from attn_export.exporter.latency.bootstrap import (
    Rounds,
    fewest_rounds,
    median_interval,
    paired_interval,
    percentile_interval,
)
from attn_export.exporter.latency.rounds import RoundTimes, Timed
from attn_export.exporter.records.latency import (
    BASELINE,
    CANT_TELL,
    Interval,
    LatencyVerdict,
    Timing,
    WarmUp,
    verdict_of,
)

# A tenth of a microsecond.
DIGITS = 4


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    """A percentile in milliseconds."""
    return float(np.percentile(seconds, share) * 1e3)


def rounds_of(turns: Sequence[RoundTimes]) -> Rounds:
    """The host's seconds of each round."""
    return [turn.seconds for turn in turns]


def timing(
    timed: Timed,
    turns: Sequence[RoundTimes],
    baseline: Timed,
    baseline_turns: Sequence[RoundTimes],
    batch: int,
    warm_up: WarmUp,
    confidence: float,
) -> Timing:
    """The record of one runtime."""
    rounds = rounds_of(turns)
    seconds = [s for turn in rounds for s in turn]
    on_device = [s for turn in turns for s in turn.device_seconds or ()]
    median = percentile_ms(seconds, 50)
    ratio, low, high = 1.0, 1.0, 1.0
    verdict: LatencyVerdict = BASELINE
    if timed is not baseline:
        ratio, low, high = paired_interval(rounds, rounds_of(baseline_turns), confidence)
        verdict = verdict_of(low, high) if len(rounds) >= fewest_rounds(confidence) else CANT_TELL
    return Timing(
        runtime=timed.name,
        artifact=timed.artifact,
        provenance=timed.provenance,
        device=timed.device,
        precision=timed.precision,
        batch=batch,
        clock=timed.clock,
        process=timed.process,
        open_seconds=timed.open_seconds,
        warm_up=warm_up,
        samples=len(seconds),
        median_ms=median,
        median_interval_ms=_in_ms(median_interval(rounds, confidence)),
        p90_ms=percentile_ms(seconds, 90),
        p99_ms=percentile_ms(seconds, 99),
        p99_interval_ms=_in_ms(percentile_interval(rounds, 99, confidence)),
        worst_ms=max(seconds) * 1e3,
        variation=float(np.std(seconds) / np.mean(seconds)),
        images_per_second=batch / median * 1e3,
        ratio=ratio,
        ratio_interval=(low, high),
        verdict=verdict,
        baseline=baseline.name,
        baseline_device=baseline.device,
        device_median_ms=percentile_ms(on_device, 50) if on_device else None,
        rounds_ms=tuple(tuple(round(s * 1e3, DIGITS) for s in turn) for turn in rounds),
    )


def _in_ms(interval: Interval) -> Interval:
    return interval[0] * 1e3, interval[1] * 1e3
