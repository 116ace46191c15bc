"""The clock and the schedule: who runs when, and for how long."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attn_export.exporter.latency.statistics import Timing, paired_ratio, percentile_ms
from attn_export.exporter.runtimes.base import Array, Runtime


@dataclass(frozen=True)
class Schedule:
    """How much is measured.

    Attributes:
        seconds: after this time no new round starts.
        fewest_rounds: are run however long they take.
        most_rounds: more would not tell more.
        inferences: timed in each turn of a runtime.
        seed: of the order of turns.
    """

    seconds: float = 8.0
    fewest_rounds: int = 5
    most_rounds: int = 200
    inferences: int = 3
    seed: int = 0


def measure(
    runtimes: Sequence[Runtime],
    images: Array,
    schedule: Schedule,
    advance: Callable[[float], None] = lambda _: None,
) -> list[Timing]:
    """Time the runtimes against each other in one run.

    In every round each runtime has a turn, in random order. A turn begins with one inference that isn't timed: it
    brings the weights back into the caches and lets the other runtimes' threads go to sleep. What is timed is `infer`
    and `synchronize` on tensors that are already on the device: copies to and from it are outside, for all alike.

    Args:
        runtimes: open; the first is the baseline of the ratios.
        images: one batch, (N, C, H, W) float32.
        schedule: how much.
        advance: called after every round with the finished share, 0..1.

    Returns:
        One `Timing` for each runtime, in the order given.
    """
    order = list(runtimes)
    draw = random.Random(schedule.seed)  # noqa: S311 (a schedule is no secret)
    inputs = {r: r.upload({r.signature.input_name: images}) for r in runtimes}
    rounds: dict[Runtime, list[list[float]]] = {r: [] for r in runtimes}
    started = time.perf_counter()
    for done in range(1, schedule.most_rounds + 1):
        draw.shuffle(order)
        for runtime in order:
            rounds[runtime].append(_turn(runtime, inputs[runtime], schedule.inferences))
        elapsed = time.perf_counter() - started
        advance(min(1.0, max(done / schedule.most_rounds, elapsed / max(schedule.seconds, 1e-9))))
        if done >= schedule.fewest_rounds and elapsed >= schedule.seconds:
            break
    return [_timing(r, rounds[r], runtimes[0], rounds[runtimes[0]], len(images)) for r in runtimes]


def _turn(runtime: Runtime, inputs: Mapping[str, Any], inferences: int) -> list[float]:
    runtime.infer(inputs)
    runtime.synchronize()
    seconds = []
    for _ in range(inferences):
        started = time.perf_counter()
        runtime.infer(inputs)
        runtime.synchronize()
        seconds.append(time.perf_counter() - started)
    return seconds


def _timing(
    runtime: Runtime, rounds: list[list[float]], baseline: Runtime, baseline_rounds: list[list[float]], batch: int
) -> Timing:
    seconds = [s for turn in rounds for s in turn]
    median = percentile_ms(seconds, 50)
    return Timing(
        runtime=runtime.name,
        provenance=runtime.provenance,
        device=runtime.device,
        precision=runtime.precision,
        batch=batch,
        open_seconds=runtime.open_seconds,
        samples=len(seconds),
        median_ms=median,
        p90_ms=percentile_ms(seconds, 90),
        p99_ms=percentile_ms(seconds, 99),
        images_per_second=batch / median * 1e3,
        ratio=paired_ratio(rounds, baseline_rounds),
        baseline=baseline.name,
        baseline_device=baseline.device,
    )
