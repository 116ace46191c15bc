"""One limit."""

from collections.abc import Mapping
from enum import Enum
from typing import Literal

from msgspec import Struct


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


class Budget(Struct, frozen=True):
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


BudgetState = Literal["kept", "broken", "can't tell"]
KEPT: BudgetState = "kept"
BROKEN: BudgetState = "broken"
CANT_TELL: BudgetState = "can't tell"
# Where the record has a timing's value, and where its interval.
FIGURES = {
    Metric.LATENCY: ("median_ms", "median_interval_ms"),
    Metric.P99: ("p99_ms", "p99_interval_ms"),
    Metric.RATIO: ("ratio", "ratio_interval"),
}


class BudgetResult(Struct, frozen=True):
    """How one figure stands to a budget.

    Attributes:
        budget: as it was asked for.
        metric, limit, unit: what is limited to how much.
        value: the figure; None where it isn't known.
        interval: where it lies, at the record's confidence; None where it was counted or isn't known.
        state: "kept" or "broken" if the whole interval says so, else "can't tell".
        runtime: what ran; None if nothing did.
        artifact: name of the file; None where it was the module itself.
        batch: that was timed; None for what wasn't timed.
        reason: why the value isn't known.
    """

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
        """A broken one, for people."""
        what = f"{self.artifact} in {self.runtime}" if self.artifact and self.runtime else self.artifact or self.runtime
        at = "" if self.batch is None else f" at batch {self.batch}"
        told = figure(self.value, self.interval, self.unit)
        return f"--budget {self.budget} is broken: the {self.metric} of {what}{at} is {told}"


def figure(value: float | None, interval: tuple[float, float] | None, unit: str) -> str:
    """``3.42 ms (3.31 to 3.55)``."""
    if value is None:
        return "not known"
    told = f"{value:.4g} {unit}"
    return told if interval is None else f"{told} ({interval[0]:.4g} to {interval[1]:.4g})"
