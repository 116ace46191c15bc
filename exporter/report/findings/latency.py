"""Latencies: labels, tables and sentences."""

from collections.abc import Sequence

from attn_export.exporter.records.latency import BASELINE, FASTER, Latency, Timing, WarmUp
from attn_export.exporter.report.findings.table import GOOD, PLAIN, QUIET, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import (
    SPACE,
    column,
    counted,
    interval,
    milliseconds,
    percent,
    places_in,
    seconds,
    speed,
    speed_words,
)

MARKS = {"faster": GOOD, "can't tell": UNSURE, "baseline": QUIET}


def by_batch(latency: Latency) -> dict[int, list[Timing]]:
    """The timings of each batch size, the baseline first."""
    found: dict[int, list[Timing]] = {}
    for timing in latency.timings:
        found.setdefault(timing.batch, []).append(timing)
    return found


def labels_of(timings: Sequence[Timing]) -> list[str]:
    """The shortest labels that distinguish the timings of one batch."""
    spelled: list[str | None] = [None] * len(timings)
    for candidates in zip(*map(_candidates, timings), strict=True):
        for index, words in enumerate(candidates):
            if spelled[index] is None and candidates.count(words) == 1 and words not in spelled:
                spelled[index] = words
    return [
        words if words is not None else f"{timing.runtime} ({index + 1})"
        for index, (words, timing) in enumerate(zip(spelled, timings, strict=True))
    ]


def _candidates(timing: Timing) -> list[str]:
    """From short to long."""
    file = timing.artifact or ""
    ways: tuple[list[str], ...] = ([], [timing.precision], [file], [file, timing.device])
    return [" ".join(dict.fromkeys(filter(None, [timing.runtime, *way]))) for way in ways]


def confidence_of(latency: Latency) -> str:
    """``99 %``, of all intervals."""
    return percent(latency.schedule.confidence)


def fastest(timings: Sequence[Timing]) -> Timing | None:
    """The timing with the smallest ratio among those that are significantly faster than the baseline."""
    faster = (t for t in timings if t.verdict == FASTER and t.ratio_interval[1] < 1)
    return min(faster, key=lambda t: t.ratio, default=None)


def overlap(timing: Timing, other: Timing) -> bool:
    """Whether the intervals of two ratios overlap: then neither runtime is significantly faster."""
    (low, high), (other_low, other_high) = timing.ratio_interval, other.ratio_interval
    return low <= other_high and other_low <= high


def speed_sentence(timing: Timing, label: str, baseline: str) -> str:
    """``onnxruntime is 6.58 times as fast as eager (6.41 to 6.71).``."""
    significant = timing.verdict != "can't tell"
    return f"{label} {speed_words(timing.ratio, timing.ratio_interval, baseline, significant=significant)}."


def devices_compared(timing: Timing) -> str:
    """``cuda against cpu`` for a ratio between devices, which compares these and not artifacts; else empty."""
    same = timing.device == timing.baseline_device
    return "" if same else f"{timing.device} against {timing.baseline_device}"


def latency_table(timings: Sequence[Timing], confidence: str) -> Table:
    """One row for each runtime of a batch."""
    labels = labels_of(timings)
    medians = column([t.median_ms for t in timings])
    tails = [column([getattr(t, field) for t in timings]) for field in ("p90_ms", "p99_ms", "worst_ms")]
    times = ("median", f"{confidence} interval", "p90", "p99", "worst", "variation", "images/s")
    heads = ("runtime", *times, f"speed, × {labels[0]}", f"{confidence} interval", "<verdict", "startup time")
    speeds = [speed(t.ratio, t.ratio_interval) for t in timings]
    rows: list[list[str | Cell]] = [
        [
            label,
            middle,
            Cell(interval(t.median_interval_ms, places_in(middle)), QUIET),
            *(tail[index] for tail in tails),
            percent(t.variation),
            f"{t.images_per_second:.1f}",
            speeds[index][0],
            Cell("" if t.verdict == BASELINE else speeds[index][1], QUIET),
            _verdict(t),
            seconds(t.open_seconds),
        ]
        for index, (t, label, middle) in enumerate(zip(timings, labels, medians, strict=True))
    ]
    return table(f"Latency at batch {timings[0].batch}, in ms", heads, rows)


def _verdict(timing: Timing) -> Cell:
    devices = devices_compared(timing)
    return Cell(timing.verdict + (f" ({devices})" if devices else ""), MARKS.get(timing.verdict, PLAIN))


def runtime_table(timings: Sequence[Timing]) -> Table:
    """Provenance and warm-up of each runtime."""
    heads = "runtime,<artifact,<provenance,<device,<precision,<clock,<process,<warm-up,CUDA events".split(",")
    rows = [
        [
            label,
            t.artifact or "the module",
            t.provenance,
            t.device,
            t.precision,
            t.clock,
            t.process,
            warm_up_words(t.warm_up),
            "" if t.device_median_ms is None else f"{milliseconds(t.device_median_ms)}{SPACE}ms",
        ]
        for t, label in zip(timings, labels_of(timings), strict=True)
    ]
    return table(f"Runtimes at batch {timings[0].batch}", heads, rows)


def warm_up_words(warm_up: WarmUp) -> str:
    """``20 inferences in 0.40 s, stable``."""
    end = "stable" if warm_up.stable else "not stable"
    return f"{counted(warm_up.inferences, 'inference')} in {seconds(warm_up.seconds)}, {end}"


def throughput_table(latency: Latency) -> Table | None:
    """Images per second by runtime and batch size; None with a single batch size."""
    batches, found = by_batch(latency), dict[str, dict[int, str]]()
    for batch, timings in batches.items():
        for timing, label in zip(timings, labels_of(timings), strict=True):
            found.setdefault(label, {})[batch] = f"{timing.images_per_second:.1f}"
    heads = ["runtime", *(f"batch {batch}" for batch in batches)]
    rows = [[label, *(rates.get(batch, "") for batch in batches)] for label, rates in found.items()]
    return table("Images per second", heads, rows) if len(batches) > 1 else None
