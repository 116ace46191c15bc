"""Latencies as a table for a terminal."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from attn_export.exporter.report.tables import table

STYLES = {"faster": "green", "slower": "yellow"}


def latency_table(latency: dict[str, Any]) -> Table:
    """One row for each runtime and batch; a ratio between devices says so."""
    timings = latency["timings"]
    several = len({t["batch"] for t in timings}) > 1
    # The mark has a column of its own, so that the decimal points stay below each other.
    marked = any(devices_compared(t) for t in timings)
    made = table(
        "Latency",
        "runtime",
        *(["batch"] if several else []),
        *("median ms", "", "p90", "p99", "worst", "images/s"),
        f"× {baseline_words(timings)}",
        *([""] if marked else []),
        *("", "", "ready after"),
    )
    made.columns[-2].justify = "left"
    ms = decimals((t["median_ms"] for t in timings), fewest=2)
    of_ratios = decimals((t["ratio"] for t in timings), fewest=3)
    names = labels(timings)
    for name, t in zip(names, timings, strict=True):
        low, high = t["ratio_interval"]
        own = t["verdict"] == "baseline"
        made.add_row(
            name,
            *([str(t["batch"])] if several else []),
            f"{t['median_ms']:.{ms}f}",
            half_width_words(half(t["median_interval_ms"]) / t["median_ms"]),
            f"{t['p90_ms']:.{ms}f}",
            f"{t['p99_ms']:.{ms}f}",
            f"{t['worst_ms']:.{ms}f}",
            f"{t['images_per_second']:.1f}",
            f"{t['ratio']:.{of_ratios}f}",
            *([devices_compared(t)] if marked else []),
            "" if own else f"{low:.{of_ratios}f}–{high:.{of_ratios}f}",
            Text("" if own else t["verdict"], STYLES.get(t["verdict"], "")),
            f"{t['open_seconds']:.1f} s",
        )
    return made


def decimals(values: Iterable[float], fewest: int) -> int:
    """With how many all of a column are told, so that the smallest has three digits."""
    return max(fewest, 2 - math.floor(math.log10(min(values))))


def baseline_words(timings: Sequence[dict[str, Any]]) -> str:
    """What ratios are to: a runtime's name, where no other timing of a batch has the same."""
    rivals = Counter((t["batch"], t["runtime"]) for t in timings)
    name = str(timings[0]["baseline"])
    return name if all(n == 1 for (_, runtime), n in rivals.items() if runtime == name) else "the first"


def half(interval: Sequence[float]) -> float:
    """Of an interval's width."""
    return (interval[1] - interval[0]) / 2


def half_width_words(share: float) -> str:
    """``±1.2%``; of what isn't known at all no digits."""
    return f"±{share:.1%}" if share < 1 else "unknown"


def labels(timings: Sequence[dict[str, Any]]) -> list[str]:
    """A name for each timing that tells it from the others of its batch: with the file's, where there are several."""
    files = {t["artifact"] for t in timings if t["artifact"]}
    return [
        f"{t['runtime']}, {t['artifact']}" if t["artifact"] and len(files) > 1 else str(t["runtime"]) for t in timings
    ]


def latency_caption(record: dict[str, Any]) -> Text:
    """Under which conditions the latencies hold."""
    latency, environment = record["latency"], record["environment"]
    parts = [environment["cpu"], *dict.fromkeys(gpu["name"] for gpu in environment.get("gpus", ()))]
    rounds = " and ".join(f"{run['rounds']} rounds of {run['inferences']}" for run in latency["runs"])
    batches = ", ".join(str(run["batch"]) for run in latency["runs"])
    warmed = [t["warm_up"]["inferences"] for t in latency["timings"]]
    caption = Text(
        f"batch {batches}; {rounds} in random order, after {span(warmed)} to warm up; "
        f"{latency['asked']['confidence']:.0%} intervals; threads: {latency['threads']}, "
        f"CPUs {','.join(map(str, latency['cpus']))}; {', '.join(parts)}",
        style="dim",
    )
    marks = dict.fromkeys(mark for t in latency["timings"] if (mark := devices_compared(t)))
    if marks:
        caption.append(f"\n{', '.join(marks)}: these ratios compare parts of this machine, not artifacts")
    return caption


def span(counts: Sequence[int]) -> str:
    """``20`` or ``7 to 121``."""
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def devices_compared(timing: dict[str, Any]) -> str:
    """``(cuda/cpu)`` for a ratio whose two sides ran on different devices, else nothing."""
    device, baseline = timing["device"], timing["baseline_device"]
    return "" if device == baseline else f"({device}/{baseline})"
