"""What a record says about latencies."""

from collections.abc import Sequence
from typing import Any

from attn_export.exporter.report.findings.table import GOOD, PLAIN, QUIET, UNSURE, Cell, Table, table
from attn_export.exporter.report.findings.words import (
    SPACE,
    column,
    counted,
    interval,
    milliseconds,
    percent,
    places_in,
    ratio,
    seconds,
)

Timing = dict[str, Any]
MARKS = {"faster": GOOD, "can't tell": UNSURE, "baseline": QUIET}
# What tells runtimes apart, the shortest first.
WAYS = (("runtime",), ("runtime", "precision"), ("runtime", "artifact"), ("runtime", "artifact", "device"))


def timings_of(record: dict[str, Any]) -> list[Timing]:
    """All timings; none where nothing was timed."""
    return list((record.get("latency") or {}).get("timings") or [])


def by_batch(record: dict[str, Any]) -> dict[int, list[Timing]]:
    """The timings of each batch size, the first being its baseline."""
    found: dict[int, list[Timing]] = {}
    for timing in timings_of(record):
        found.setdefault(timing["batch"], []).append(timing)
    return found


def labels_of(timings: Sequence[Timing]) -> list[str]:
    """What the runtimes of one batch are called: no longer than it takes to tell them apart."""
    spelled: list[str | None] = [None] * len(timings)
    for way in WAYS:
        tried = [" ".join(dict.fromkeys(str(t[key]) for key in way if t.get(key))) for t in timings]
        for index, words in enumerate(tried):
            if spelled[index] is None and tried.count(words) == 1 and words not in spelled:
                spelled[index] = words
    return [
        words if words is not None else f"{timing['runtime']} ({index + 1})"
        for index, (words, timing) in enumerate(zip(spelled, timings, strict=True))
    ]


def confidence_of(record: dict[str, Any]) -> str:
    """``99 %``, of all intervals."""
    return percent(record["latency"]["asked"]["confidence"])


def fastest(timings: Sequence[Timing]) -> Timing | None:
    """The one with the smallest ratio among those that are faster than the baseline beyond doubt."""
    faster = [t for t in timings if t["verdict"] == "faster"]
    return min(faster, key=lambda t: float(t["ratio"]), default=None)


def overlap(timing: Timing, other: Timing) -> bool:
    """Whether the intervals of two ratios have anything in common: then neither runtime is the faster."""
    (low, high), (other_low, other_high) = timing["ratio_interval"], other["ratio_interval"]
    return bool(low <= other_high and other_low <= high)


def ratio_sentence(timing: Timing, label: str, baseline: str) -> str:
    """One ratio in words, such as ``onnxruntime takes 0.152 of eager's time (0.149 to 0.156): faster.``."""
    between = interval(timing["ratio_interval"])
    if timing["verdict"] == "can't tell":
        return f"Whether {label} is faster or slower than {baseline} can't be told: the ratio lies in {between}."
    return f"{label} takes {ratio(timing['ratio'])} of {baseline}'s time ({between}): {timing['verdict']}."


def devices_compared(timing: Timing) -> str:
    """``cuda against cpu`` for a ratio between devices, which says nothing about the artifact; else nothing."""
    device, baseline = timing["device"], timing["baseline_device"]
    return "" if device == baseline else f"{device} against {baseline}"


def latency_table(timings: Sequence[Timing], confidence: str) -> Table:
    """One row for each runtime of a batch."""
    labels = labels_of(timings)
    baseline = labels[0]
    keys = ("median_ms", "p90_ms", "p99_ms", "worst_ms")
    medians, *tails = (column([t[key] for t in timings]) for key in keys)

    def row(index: int) -> list[str | Cell]:
        timing, label = timings[index], labels[index]
        first = timing["verdict"] == "baseline"
        other = devices_compared(timing)
        return [
            label,
            medians[index],
            Cell(interval(timing["median_interval_ms"], places_in(medians[index])), QUIET),
            *(tail[index] for tail in tails),
            percent(timing["variation"]),
            f"{timing['images_per_second']:.1f}",
            ratio(timing["ratio"]),
            Cell("" if first else interval(timing["ratio_interval"]), QUIET),
            Cell(timing["verdict"] + (f" ({other})" if other else ""), MARKS.get(timing["verdict"], PLAIN)),
            seconds(timing["open_seconds"]),
        ]

    return table(
        f"Latency at batch {timings[0]['batch']}, in ms",
        [
            "runtime",
            "median",
            f"{confidence} interval",
            "p90",
            "p99",
            "worst",
            "variation",
            "images/s",
            f"× {baseline}",
            f"{confidence} interval",
            "<verdict",
            "ready after",
        ],
        [row(index) for index in range(len(timings))],
    )


def what_ran(timings: Sequence[Timing]) -> Table:
    """What each runtime really was, and how it was warmed up."""
    return table(
        f"What ran at batch {timings[0]['batch']}",
        [
            "runtime",
            "<artifact",
            "<what it is",
            "<device",
            "<precision",
            "<clock",
            "<process",
            "<warm-up",
            "CUDA events",
        ],
        [
            [
                label,
                t["artifact"] or "the network itself",
                t["provenance"],
                t["device"],
                t["precision"],
                t["clock"],
                t["process"],
                warm_up_words(t["warm_up"]),
                "" if t.get("device_median_ms") is None else f"{milliseconds(t['device_median_ms'])}{SPACE}ms",
            ]
            for t, label in zip(timings, labels_of(timings), strict=True)
        ],
    )


def warm_up_words(warm_up: dict[str, Any]) -> str:
    """``20 inferences in 0.40 s, then stable``."""
    end = "then stable" if warm_up["stable"] else "not stable even then"
    return f"{counted(warm_up['inferences'], 'inference')} in {seconds(warm_up['seconds'])}, {end}"


def throughput_of(record: dict[str, Any]) -> dict[str, dict[int, float]]:
    """Images per second by runtime and batch size."""
    found: dict[str, dict[int, float]] = {}
    for batch, timings in by_batch(record).items():
        for timing, label in zip(timings, labels_of(timings), strict=True):
            found.setdefault(label, {})[batch] = timing["images_per_second"]
    return found
