"""Runs the schedule of a timing."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from attn_export.exporter.latency.bootstrap import fewest_rounds, half_width, median_interval, paired_interval
from attn_export.exporter.latency.rounds import InProcess, RoundTimes, Timed
from attn_export.exporter.latency.statistics import percentile_ms, rounds_of, timing
from attn_export.exporter.latency.warm_up import warm_up
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.records.latency import Run, Schedule, Timing, WarmUp
from attn_export.exporter.runtimes.base import Runtime

# Long compared with the untimed first inference, short compared with disturbances of the machine.
TURN_SECONDS = 0.02
INFERENCES, SLOW_SECONDS = (3, 30), 0.3
# Needed for the 99th percentile.
FEWEST_SAMPLES = 100
# Growth of the rounds between checks of the interval: checking every round would stop at a lucky one.
CHECK_GROWTH = 1.25
CHECK_RESAMPLES = 500


@dataclass(frozen=True)
class Measured:
    """One timing for each runtime, in their order, at one batch size."""

    timings: tuple[Timing, ...]
    run: Run


def measure(
    runtimes: Sequence[Runtime | Timed],
    arrays: Arrays,
    schedule: Schedule,
    advance: Callable[[float], None] = lambda _: None,
    between_rounds: Callable[[], None] = lambda: None,
) -> Measured:
    """Time open runtimes against each other in one run on one batch; the first is the baseline of the ratios.

    After the warm-up every round runs each of them once, in random order. The timed part is `infer` and
    `synchronize` on tensors on the device, without copies to and from it. After every round ``advance`` receives the
    finished share, 0..1, and ``between_rounds`` is called, untimed.
    """
    draw = random.Random(schedule.seed)  # noqa: S311 (not for cryptography)
    batch = len(next(iter(arrays.values())))
    with ExitStack() as stack:
        candidates: list[Timed] = []
        for runtime in runtimes:
            timed = InProcess(runtime) if isinstance(runtime, Runtime) else runtime
            stack.callback(timed.close)
            timed.load(arrays)
            candidates.append(timed)
        warm_ups, slowest = [], 0.0
        for timed in candidates:
            warmed, seconds = warm_up(timed, schedule.warm_up_seconds)
            warm_ups.append(warmed)
            slowest = max(slowest, seconds)
        inferences = schedule.inferences or _inferences(slowest)
        turns: list[list[RoundTimes]] = [[] for _ in candidates]
        run = _rounds(candidates, turns, inferences, schedule, draw, batch, advance, between_rounds)
        timings = tuple(
            timing(timed, times, candidates[0], turns[0], batch, warmed, schedule.confidence)
            for timed, times, warmed in zip(candidates, turns, warm_ups, strict=True)
        )
    return Measured(timings, run)


def _inferences(slowest: float) -> int:
    """The inferences of each runtime in a round; ``slowest`` is the longest inference, in seconds."""
    if slowest > SLOW_SECONDS:
        return 1
    low, high = INFERENCES
    return max(low, min(high, int(TURN_SECONDS / max(slowest, 1e-9))))


def _rounds(
    candidates: Sequence[Timed],
    turns: list[list[RoundTimes]],
    inferences: int,
    schedule: Schedule,
    draw: random.Random,
    batch: int,
    advance: Callable[[float], None],
    between_rounds: Callable[[], None],
) -> Run:
    order = list(range(len(candidates)))
    started, next_check, interval = time.perf_counter(), schedule.fewest_rounds, float("inf")
    for done in range(1, schedule.most_rounds + 1):
        draw.shuffle(order)
        for place in order:
            turns[place].append(candidates[place].turn(inferences))
        between_rounds()
        elapsed = time.perf_counter() - started
        advance(min(1.0, max(done / schedule.most_rounds, elapsed / max(schedule.seconds, 1e-9))))
        if done < schedule.fewest_rounds:
            continue
        is_last = elapsed >= schedule.seconds or done == schedule.most_rounds
        if is_last or done >= next_check:
            next_check = max(done + 1, int(done * CHECK_GROWTH))
            interval = _widest(turns, schedule.confidence)
            enough = done * inferences >= FEWEST_SAMPLES and elapsed >= schedule.fewest_seconds
            if is_last or (interval <= schedule.interval and enough):
                break
    reached = interval <= schedule.interval and done >= fewest_rounds(schedule.confidence)
    return Run(batch, done, inferences, time.perf_counter() - started, interval, reached)


def _widest(turns: Sequence[Sequence[RoundTimes]], confidence: float) -> float:
    """The largest half-width of the ratios to the first runtime; of the median for a single runtime."""
    first, *others = [rounds_of(times) for times in turns]
    if not others:
        seconds = [s for turn in first for s in turn]
        low, high = median_interval(first, confidence, CHECK_RESAMPLES)
        return half_width(percentile_ms(seconds, 50) / 1e3, low, high)
    return max(half_width(*paired_interval(rounds, first, confidence, CHECK_RESAMPLES)) for rounds in others)


def _timings(
    candidates: Sequence[Timed],
    turns: Sequence[Sequence[RoundTimes]],
    batch: int,
    warm_ups: Sequence[WarmUp],
    confidence: float,
) -> tuple[Timing, ...]:
    return tuple(
        timing(timed, times, candidates[0], turns[0], batch, warmed, confidence)
        for timed, times, warmed in zip(candidates, turns, warm_ups, strict=True)
    )
