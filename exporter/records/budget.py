"""Budgets and their results."""

from collections.abc import Mapping
from enum import Enum
from typing import Literal

from msgspec import Struct


class Metric(str, Enum):
    """The limited figure."""

    LATENCY = "latency"
    P99 = "p99"
    RATIO = "ratio"
    DROP = "drop"

    def __str__(self) -> str:
        return self.value

    @property
    def unit(self) -> str:
        """The unit of its values."""
        return UNITS[self]

    @property
    def timed(self) -> bool:
        """Whether it comes from latency rather than validation."""
        return self is not Metric.DROP


UNITS: Mapping[Metric, str] = {Metric.LATENCY: "ms", Metric.P99: "ms", Metric.RATIO: "×", Metric.DROP: "%"}


class Budget(Struct, frozen=True):
    """A limit on one figure.

    Attributes:
        text: as given: ``onnxruntime:latency=3ms``.
        metric: the median latency, the 99th percentile, the ratio to the run's baseline, or the share of ordinary and
            real images whose class is another than in float64.
        limit: the largest allowed value, in the metric's unit.
        runtime: that it applies to; None: every artifact in every runtime.
    """

    text: str
    metric: Metric
    limit: float
    runtime: str | None = None


BudgetState = Literal["kept", "broken", "can't tell"]
KEPT: BudgetState = "kept"
BROKEN: BudgetState = "broken"
CANT_TELL: BudgetState = "can't tell"
# The fields of a timing with a metric's value and interval.
FIGURES = {
    Metric.LATENCY: ("median_ms", "median_interval_ms"),
    Metric.P99: ("p99_ms", "p99_interval_ms"),
    Metric.RATIO: ("ratio", "ratio_interval"),
}


class BudgetResult(Struct, frozen=True):
    """One figure, None if unknown, beside its limit: "kept" or "broken" if its whole interval is."""

    budget: str
    metric: str
    limit: float
    unit: str
    value: float | None
    interval: tuple[float, float] | None
    state: BudgetState
    runtime: str | None
    artifact: str | None
    batch: int | None = None
    reason: str = ""

    @property
    def sentence(self) -> str:
        """The message for a broken budget."""
        what = f"{self.artifact} in {self.runtime}" if self.artifact and self.runtime else self.artifact or self.runtime
        at = "" if self.batch is None else f" at batch {self.batch}"
        value = figure(self.value, self.interval, self.unit)
        return f"--budget {self.budget} is broken: the {self.metric} of {what}{at} is {value}"


def figure(value: float | None, interval: tuple[float, float] | None, unit: str) -> str:
    """``3.42 ms (3.31 to 3.55)``."""
    if value is None:
        return "not known"
    text = f"{value:.4g} {unit}"
    return text if interval is None else f"{text} ({interval[0]:.4g} to {interval[1]:.4g})"
