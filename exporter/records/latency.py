"""The results of a timing: latencies, schedule and conditions."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

TIMED = (
    "one inference, its input already on the device: the call and waiting for the device; copies to and from it are "
    "outside"
)


class WarmUp(Struct, frozen=True):
    """The warm-up of a runtime. ``stable``: whether times became stable within the time limit."""

    inferences: int
    seconds: float
    stable: bool


Positive = Annotated[float, Meta(gt=0)]
Interval = tuple[Positive, Positive]
Count = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
NotNegative = Annotated[float, Meta(ge=0)]
RoundMs = Annotated[tuple[Positive, ...], Meta(min_length=1)]
Share = Annotated[float, Meta(gt=0, lt=1)]
LatencyVerdict = Literal["baseline", "faster", "slower", "can't tell"]


class Subject(Struct, frozen=True):
    """What is timed: the PyTorch module or an artifact, its library with version and provider, and its device."""

    runtime: str
    artifact: str | None
    provenance: str
    device: str
    precision: str
    batch: Count

    @property
    def label(self) -> str:
        """``onnxruntime of model.onnx``, or ``eager``."""
        return f"{self.runtime} of {self.artifact}" if self.artifact else self.runtime


class Timing(Subject, frozen=True):
    """The latency of one runtime at one batch size.

    Attributes:
        clock: the clocks that were read.
        process: "shared" with the other runtimes, or its "own".
        open_seconds: loading, compiling and the first inference, which are not part of the latencies.
        median_ms, p90_ms, p99_ms, worst_ms: of one inference.
        median_interval_ms, p99_interval_ms: confidence intervals of median and p99.
        variation: standard deviation divided by mean.
        images_per_second: from the median.
        ratio: median over the rounds of this runtime's time divided by the baseline's in the same round.
        baseline_device: its device; a ratio between devices compares these rather than artifacts.
        device_median_ms: between two events on the device; None without events.
        rounds_ms: every inference, by round.
    """

    clock: str
    process: str
    open_seconds: float
    warm_up: WarmUp
    samples: int
    median_ms: Positive
    median_interval_ms: Interval
    p90_ms: Positive
    p99_ms: Positive
    p99_interval_ms: Interval
    worst_ms: Positive
    variation: float
    images_per_second: float
    ratio: Positive
    ratio_interval: Interval
    verdict: LatencyVerdict
    baseline: str
    baseline_device: str
    device_median_ms: float | None
    rounds_ms: Annotated[tuple[RoundMs, ...], Meta(min_length=1)]


class Run(Struct, frozen=True):
    """The timing of one batch size; ``interval`` is the largest half-width of a ratio, or of a single median."""

    batch: Count
    rounds: int
    inferences: int
    seconds: float
    interval: NotNegative
    reached: bool
    conditions: "Conditions | None" = None


CONFIDENCE = 0.99


class Schedule(Struct, frozen=True):
    """The schedule of a timing.

    Attributes:
        interval: target for the relative half-width of every ratio.
        seconds: time limit, after which no new round starts.
        fewest_seconds: rounds go on for so long even if the ratios seem to be known: a disturbance of a third of a
            second would otherwise be all that was seen of the machine.
        fewest_rounds: regardless of the time; fewer than the confidence needs give no verdict.
        inferences: of each runtime in a round; None: as many as take `TURN_SECONDS`.
        warm_up_seconds: time limit for each runtime.
    """

    interval: Positive = 0.02
    confidence: Share = CONFIDENCE
    seconds: float = 8.0
    fewest_seconds: float = 1.0
    fewest_rounds: int = 8
    most_rounds: int = 2000
    inferences: int | None = None
    warm_up_seconds: float = 2.0
    seed: int = 0


class Latency(Struct, frozen=True):
    """The timings of one command: the first batch's in the order of the runtimes, then those of the next."""

    threads: Count
    cpus: tuple[Natural, ...]
    schedule: Schedule
    runs: tuple[Run, ...] = ()
    timings: tuple[Timing, ...] = ()
    timed: str = TIMED


def joined(parts: Sequence[Latency]) -> Latency:
    """Merge the timings of several batch sizes with the same schedule; at least one."""
    first = parts[0]
    runs = tuple(run for part in parts for run in part.runs)
    timings = tuple(timing for part in parts for timing in part.timings)
    return Latency(first.threads, first.cpus, first.schedule, runs, timings)


Range = tuple[float, float, float]


class GpuProcess(Struct, frozen=True):
    """Another process on the GPU."""

    pid: int
    memory_mib: int | None


class GpuConditions(Struct, frozen=True):
    """One GPU, sampled once a second: minimum, median, maximum of MHz, degrees Celsius and watts."""

    index: int
    name: str
    clock_mhz: Range | None = None
    memory_clock_mhz: Range | None = None
    temperature_c: Range | None = None
    power_w: Range | None = None
    throttling: tuple[str, ...] = ()
    others: tuple[GpuProcess, ...] = ()


class Conditions(Struct, frozen=True):
    """The conditions of the machine during a timing; None if unknown.

    Attributes:
        load: the run queue at the beginning, averaged over a minute.
        others: share of all CPU time, over the CPUs that this process may use, that processes other than this one and
            those that it started used.
        steal: share of the hypervisor.
        quota: of a control group, in CPUs, such as 1.5; None without a limit.
        throttled: share of the quota's periods in which it was used up.
        mhz: of each available CPU, at the end.
    """

    load: float | None = None
    others: float | None = None
    steal: float | None = None
    mhz: tuple[float, ...] | None = None
    governor: str | None = None
    gpus: tuple[GpuConditions, ...] = ()
    quota: float | None = None
    throttled: float | None = None
    notes: tuple[str, ...] = ()


BASELINE: Literal["baseline"] = "baseline"
FASTER: Literal["faster"] = "faster"
SLOWER: Literal["slower"] = "slower"
CANT_TELL: Literal["can't tell"] = "can't tell"
# Two copies of one network in one process may differ permanently by this much, because of their memory layout
# (docs/latency.md has the measurement).
RESOLUTION = 0.01


def verdict_of(low: float, high: float) -> LatencyVerdict:
    """The verdict for the interval of a ratio to the baseline."""
    if high < 1 - RESOLUTION:
        return FASTER
    if low > 1 + RESOLUTION:
        return SLOWER
    return CANT_TELL
