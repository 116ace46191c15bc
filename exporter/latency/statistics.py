"""Times to numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Timing:
    """How long one runtime took for one batch.

    Attributes:
        runtime: its name.
        provenance: what really ran.
        device: where.
        precision: that the artifact computes in.
        batch: images in one inference.
        open_seconds: loading, compiling and the first inference, which are not part of the latencies.
        samples: inferences that were timed.
        median_ms, p90_ms, p99_ms: of one inference.
        images_per_second: from the median.
        ratio: median over the rounds of this runtime's time divided by the baseline's in the same round.
        baseline: the runtime that the ratio is to.
        baseline_device: where that one ran; a ratio of two devices compares these, and not artifacts.
    """

    runtime: str
    provenance: str
    device: str
    precision: str
    batch: int
    open_seconds: float
    samples: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    images_per_second: float
    ratio: float
    baseline: str
    baseline_device: str


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    """A percentile in milliseconds."""
    return float(np.percentile(seconds, share) * 1e3)


def paired_ratio(seconds: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]]) -> float:
    """Median over the rounds of the ratio of the two medians of that round.

    Rounds are seconds apart, so a drift of the machine's speed hits both sides of each ratio alike.
    """
    return float(np.median([np.median(a) / np.median(b) for a, b in zip(seconds, baseline, strict=True)]))
