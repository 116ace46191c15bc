"""What one run of timing gives: the latencies, and how and under what conditions they were taken."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

TIMED = (
    "one inference, its input already on the device: the call and waiting for the device; copies to and from it are "
    "outside"
)


class WarmUp(Struct, frozen=True):
    """How a runtime was warmed up.

    Attributes:
        inferences: that it took.
        seconds: that these took.
        stable: whether it had stopped getting faster; if not, the time for it was over.
    """

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
    """What a timing is of.

    Attributes:
        runtime: its name.
        artifact: name of the file, None for the module itself.
        provenance: what really ran, with its version.
        device: where.
        precision: that the artifact computes in.
        batch: images in one inference.
    """

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
    """How long one runtime took for one batch.

    Attributes:
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
    """How one batch was measured.

    Attributes:
        batch: N.
        rounds: in which each runtime had a turn.
        inferences: that were timed in each turn.
        seconds: that the rounds took.
        interval: the widest half width of a ratio, relative; of the median where there is one runtime only.
        reached: whether that is what was asked for.
        conditions: under which it was; None where nobody looked.
    """

    batch: Count
    rounds: int
    inferences: int
    seconds: float
    interval: NotNegative
    reached: bool
    conditions: "Conditions | None" = None


CONFIDENCE = 0.99


class Schedule(Struct, frozen=True):
    """How much is measured.

    Attributes:
        interval: rounds go on until every ratio is known to so much to either side, relative.
        confidence: of all intervals.
        seconds: after this time no new round starts, reached or not.
        fewest_seconds: rounds go on for so long even if the ratios seem to be known: a disturbance of a third of a
            second would otherwise be all that was seen of the machine.
        fewest_rounds: are run however long they take. With fewer than the confidence needs nothing can be told.
        most_rounds: more would not tell more.
        inferences: timed in each turn of a runtime; None: as many as make a turn of `TURN_SECONDS`.
        warm_up_seconds: for each runtime, at most.
        seed: of the order of turns.
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
    """Everything that was timed together.

    Attributes:
        threads: CPU threads of every runtime.
        cpus: that the process may use.
        schedule: what was asked for.
        runs: one for each batch.
        timings: of the first batch in the order of the runtimes, then of the next.
        timed: what one latency covers.
    """

    threads: Count
    cpus: tuple[Natural, ...]
    schedule: Schedule
    runs: tuple[Run, ...] = ()
    timings: tuple[Timing, ...] = ()
    timed: str = TIMED


def joined(parts: Sequence[Latency]) -> Latency:
    """Several batches that were timed one after the other, with the same schedule, as one; at least one."""
    first = parts[0]
    runs = tuple(run for part in parts for run in part.runs)
    timings = tuple(timing for part in parts for timing in part.timings)
    return Latency(first.threads, first.cpus, first.schedule, runs, timings)


Range = tuple[float, float, float]


class GpuProcess(Struct, frozen=True):
    """A process that isn't ours and computes on the GPU.

    Attributes:
        pid: its number, as the driver counts.
        memory_mib: of the GPU's, None where the driver doesn't say.
    """

    pid: int
    memory_mib: int | None


class GpuConditions(Struct, frozen=True):
    """How one GPU was, sampled once a second. Ranges are least, median, most.

    Attributes:
        index: NVML's.
        name: such as NVIDIA GeForce RTX 4090.
        clock_mhz: of its multiprocessors.
        memory_clock_mhz: of its memory.
        temperature_c: in degrees Celsius.
        power_w: in watts.
        throttling: what slowed it down at any time, in words.
        others: processes that computed on it at any time, and aren't ours.
    """

    index: int
    name: str
    clock_mhz: Range | None = None
    memory_clock_mhz: Range | None = None
    temperature_c: Range | None = None
    power_w: Range | None = None
    throttling: tuple[str, ...] = ()
    others: tuple[GpuProcess, ...] = ()


class Conditions(Struct, frozen=True):
    """How the machine was while latencies were taken; None is what the system doesn't say.

    Attributes:
        load: the system's run queue when it began, averaged over a minute.
        others: share of all CPU time, over the CPUs that this process may use, that processes other than this one and
            those that it started used.
        steal: share that the hypervisor took.
        quota: of CPU time that a control group grants, in CPUs: 1.5; None too where it grants all.
        throttled: share of that quota's periods in which it was used up, and everything had to wait.
        mhz: of each CPU that this process may use, at the end.
        governor: what chooses these clocks.
        gpus: those in use.
    """

    load: float | None = None
    others: float | None = None
    steal: float | None = None
    mhz: tuple[float, ...] | None = None
    governor: str | None = None
    gpus: tuple[GpuConditions, ...] = ()
    quota: float | None = None
    throttled: float | None = None


BASELINE: Literal["baseline"] = "baseline"
FASTER: Literal["faster"] = "faster"
SLOWER: Literal["slower"] = "slower"
CANT_TELL: Literal["can't tell"] = "can't tell"
# Two copies of one network in one process may differ by this much for good, by where their memory happens to lie: a
# smaller difference is one of this run, and not of what was timed (docs/latency.md has the measurement).
RESOLUTION = 0.01


def verdict_of(low: float, high: float) -> LatencyVerdict:
    """Faster or slower, or neither can be told.

    Args:
        low: the lower end of the interval of the ratio to the baseline.
        high: its upper end.
    """
    if high < 1 - RESOLUTION:
        return FASTER
    if low > 1 + RESOLUTION:
        return SLOWER
    return CANT_TELL
