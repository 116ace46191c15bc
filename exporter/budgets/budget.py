"""One limit."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Metric(str, Enum):
    """What is limited."""

    LATENCY = "latency"
    P99 = "p99"
    RATIO = "ratio"
    DROP = "drop"

    def __str__(self) -> str:
        return self.value

    @property
    def unit(self) -> str:
        """That values are told in."""
        return UNITS[self]

    @property
    def timed(self) -> bool:
        """Whether it is one of latency's; otherwise it is one of validation's."""
        return self is not Metric.DROP


UNITS: Mapping[Metric, str] = {Metric.LATENCY: "ms", Metric.P99: "ms", Metric.RATIO: "×", Metric.DROP: "%"}


@dataclass(frozen=True)
class Budget:
    """A limit on one figure.

    Attributes:
        text: as it was asked for: ``onnxruntime:latency=3ms``.
        metric: the median latency, the 99th percentile, the ratio to the run's baseline, or the share of ordinary and
            real images whose class is another than in float64.
        limit: the largest value that is allowed, in the metric's unit.
        runtime: whose figure it is; None: every artifact's, in whatever runs it.
    """

    text: str
    metric: Metric
    limit: float
    runtime: str | None = None
