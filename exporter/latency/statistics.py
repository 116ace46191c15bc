"""Times to numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attn_export.exporter.latency.bootstrap import (
    Interval,
    Rounds,
    fewest_rounds,
    median_interval,
    paired_interval,
    percentile_interval,
)
from attn_export.exporter.latency.turns import Timed, Turn
from attn_export.exporter.latency.verdict import BASELINE, CANT_TELL, verdict_of
from attn_export.exporter.latency.warm_up import WarmUp

# Of what a figure is worth: a tenth of a microsecond.
DIGITS = 4


@dataclass(frozen=True)
class Timing:
    """How long one runtime took for one batch.

    Attributes:
        runtime: its name.
        artifact: name of the file that ran, None where it was the module itself.
        provenance: what really ran.
        device: where.
        precision: that the artifact computes in.
        batch: images in one inference.
        clock: what was read.
        process: "shared" with the other runtimes, or its "own".
        open_seconds: loading, compiling and the first inference, which are not part of the latencies.
        warm_up: what came before the first round.
        samples: inferences that were timed.
        median_ms, p90_ms, p99_ms, worst_ms: of one inference.
        median_interval_ms, p99_interval_ms: where median and p99 lie, at the confidence that was asked for.
        variation: standard deviation divided by mean.
        images_per_second: from the median.
        ratio: median over the rounds of this runtime's time divided by the baseline's in the same round.
        ratio_interval: where it lies.
        verdict: "faster" or "slower" than the baseline, "can't tell", or "baseline".
        baseline: the runtime that the ratio is to.
        baseline_device: where that one ran; a ratio of two devices compares these, and not artifacts.
        device_median_ms: between two events on the device; None where it has none.
        rounds_ms: every inference, by round.
    """

    runtime: str
    artifact: str | None
    provenance: str
    device: str
    precision: str
    batch: int
    clock: str
    process: str
    open_seconds: float
    warm_up: WarmUp
    samples: int
    median_ms: float
    median_interval_ms: Interval
    p90_ms: float
    p99_ms: float
    p99_interval_ms: Interval
    worst_ms: float
    variation: float
    images_per_second: float
    ratio: float
    ratio_interval: Interval
    verdict: str
    baseline: str
    baseline_device: str
    device_median_ms: float | None
    rounds_ms: tuple[tuple[float, ...], ...]


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    """A percentile in milliseconds."""
    return float(np.percentile(seconds, share) * 1e3)


def rounds_of(turns: Sequence[Turn]) -> Rounds:
    """The host's seconds of each turn."""
    return [turn.seconds for turn in turns]


def timing(
    timed: Timed,
    turns: Sequence[Turn],
    baseline: Timed,
    baseline_turns: Sequence[Turn],
    batch: int,
    warm_up: WarmUp,
    confidence: float,
) -> Timing:
    """Everything that is told of one runtime."""
    rounds = rounds_of(turns)
    seconds = [s for turn in rounds for s in turn]
    on_device = [s for turn in turns for s in turn.device_seconds or ()]
    median = percentile_ms(seconds, 50)
    ratio, low, high, verdict = 1.0, 1.0, 1.0, BASELINE
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
