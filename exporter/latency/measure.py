"""The schedule: who runs when, and for how long."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from attn_export.exporter.latency.bootstrap import fewest_rounds, half_width, median_interval, paired_interval
from attn_export.exporter.latency.rounds import InProcess, RoundTimes, Timed
from attn_export.exporter.latency.statistics import percentile_ms, rounds_of, timing
from attn_export.exporter.latency.warm_up import warm_up
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.latency import Run, Schedule, Timing, WarmUp
from attn_export.exporter.runtimes.base import Runtime

# A turn of this length is long beside the first inference that isn't timed, and short beside what disturbs a machine.
TURN_SECONDS = 0.02
INFERENCES, SLOW_SECONDS = (3, 30), 0.3
# Fewer have no 99th percentile.
FEWEST_SAMPLES = 100
# The intervals are looked at again when there are so many times the rounds: looking at each would stop at the luckiest.
UNTIL_NEXT_LOOK = 1.25
RESAMPLES_OF_A_LOOK = 500


@dataclass(frozen=True)
class Measured:
    """What was found out about one batch: one timing for each runtime, in the order given."""

    timings: tuple[Timing, ...]
    run: Run


def measure(
    runtimes: Sequence[Runtime | Timed],
    images: Array,
    schedule: Schedule,
    advance: Callable[[float], None] = lambda _: None,
    between_rounds: Callable[[], None] = lambda: None,
) -> Measured:
    """Time runtimes against each other in one run.

    Each is warmed up. Then, in every round, each has a turn, in random order. What is timed is `infer` and
    `synchronize` on tensors that are already on the device: copies to and from it are outside, for all alike.

    Args:
        runtimes: open; the first is the baseline of the ratios.
        images: one batch, (N, C, H, W) float32.
        schedule: how much.
        advance: called after every round with the finished share, 0..1.
        between_rounds: called after every round, outside of what is timed.

    Returns:
        The timings, and how they were taken.
    """
    draw = random.Random(schedule.seed)  # noqa: S311 (a schedule is no secret)
    batch = len(images)
    with ExitStack() as stack:
        everyone: list[Timed] = []
        for runtime in runtimes:
            timed = InProcess(runtime) if isinstance(runtime, Runtime) else runtime
            stack.callback(timed.close)
            timed.load(images)
            everyone.append(timed)
        warm_ups, usual = [], 0.0
        for timed in everyone:
            warmed, seconds = warm_up(timed, schedule.warm_up_seconds)
            warm_ups.append(warmed)
            usual = max(usual, seconds)
        inferences = schedule.inferences or _inferences(usual)
        turns: list[list[RoundTimes]] = [[] for _ in everyone]
        run = _rounds(everyone, turns, inferences, schedule, draw, batch, advance, between_rounds)
        made = _timings(everyone, turns, batch, warm_ups, schedule.confidence)
    return Measured(made, run)


def _inferences(slowest: float) -> int:
    """How many in a turn, by the seconds of the slowest runtime's inference."""
    if slowest > SLOW_SECONDS:
        return 1
    fewest, most = INFERENCES
    return max(fewest, min(most, int(TURN_SECONDS / max(slowest, 1e-9))))


def _rounds(
    everyone: Sequence[Timed],
    turns: list[list[RoundTimes]],
    inferences: int,
    schedule: Schedule,
    draw: random.Random,
    batch: int,
    advance: Callable[[float], None],
    between_rounds: Callable[[], None],
) -> Run:
    order = list(range(len(everyone)))
    started, look, interval = time.perf_counter(), schedule.fewest_rounds, float("inf")
    for done in range(1, schedule.most_rounds + 1):
        draw.shuffle(order)
        for place in order:
            turns[place].append(everyone[place].turn(inferences))
        between_rounds()
        elapsed = time.perf_counter() - started
        advance(min(1.0, max(done / schedule.most_rounds, elapsed / max(schedule.seconds, 1e-9))))
        if done < schedule.fewest_rounds:
            continue
        over = elapsed >= schedule.seconds or done == schedule.most_rounds
        if over or done >= look:
            look = max(done + 1, int(done * UNTIL_NEXT_LOOK))
            interval = _widest(turns, schedule.confidence)
            enough = done * inferences >= FEWEST_SAMPLES and elapsed >= schedule.fewest_seconds
            if over or (interval <= schedule.interval and enough):
                break
    reached = interval <= schedule.interval and done >= fewest_rounds(schedule.confidence)
    return Run(batch, done, inferences, time.perf_counter() - started, interval, reached)


def _widest(turns: Sequence[Sequence[RoundTimes]], confidence: float) -> float:
    """The widest half width of a ratio to the first; of the median where there is one runtime only."""
    first, *others = [rounds_of(own) for own in turns]
    if not others:
        seconds = [s for turn in first for s in turn]
        low, high = median_interval(first, confidence, RESAMPLES_OF_A_LOOK)
        return half_width(percentile_ms(seconds, 50) / 1e3, low, high)
    return max(half_width(*paired_interval(own, first, confidence, RESAMPLES_OF_A_LOOK)) for own in others)


def _timings(
    everyone: Sequence[Timed],
    turns: Sequence[Sequence[RoundTimes]],
    batch: int,
    warm_ups: Sequence[WarmUp],
    confidence: float,
) -> tuple[Timing, ...]:
    return tuple(
        timing(timed, own, everyone[0], turns[0], batch, warmed, confidence)
        for timed, own, warmed in zip(everyone, turns, warm_ups, strict=True)
    )
