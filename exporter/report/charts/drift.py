"""How each runtime's time moved from round to round: what drifts for all alike leaves the ratio as it is."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from attn_export.exporter.records.latency import Timing
from attn_export.exporter.report.charts.axes import HALF, LONGEST_NAME, SMALL, room_for
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.palette import INK, LINE, SOFT, colour
from attn_export.exporter.report.charts.svg import canvas, inline, panel
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import percent, shortened

ROW = 30.0
TOP, BOTTOM = 8.0, 22.0
LEAST_SPAN, LARGEST_SPAN = 0.05, 0.5
PARTS = 10  # of the run, in the data


def drift(name: str, timings: Sequence[Timing], labels: Sequence[str]) -> Chart | None:
    """One small line for each runtime; None where there are too few rounds for a line.

    Args:
        name: of the chart, the same for no other.
        timings: of one batch.
        labels: of the runtimes.
    """
    medians = [np.array([np.median(turn) for turn in t.rounds_ms]) for t in timings]
    count = len(medians[0])
    if count < 3:
        return None
    moved = [each / np.median(each) - 1 for each in medians]
    # What is rare would flatten the rest: it is drawn at the edge.
    span = min(LARGEST_SPAN, max(LEAST_SPAN, *(float(np.percentile(np.abs(each), 97)) for each in moved)))
    left = room_for(labels)
    with canvas(HALF, TOP + ROW * len(moved) + BOTTOM) as figure:
        for index, (each, label) in enumerate(zip(moved, labels, strict=True)):
            axes = panel(figure, left, TOP + index * ROW + 3, HALF - left - 56, ROW - 6)
            axes.spines.bottom.set_visible(False)
            axes.set_xlim(1, count)
            axes.set_ylim(-span, span)
            axes.fill_between([1, count], -span, span, color=LINE, alpha=0.35, linewidth=0)
            axes.plot([1, count], [0, 0], color=LINE, linewidth=1)
            axes.plot(np.arange(1, count + 1), np.clip(each, -span, span), color=colour(index), linewidth=1.2)
            side = axes.get_yaxis_transform()
            text = shortened(label, LONGEST_NAME)
            axes.annotate(text, (0, 0), (-12, 0), side, "offset points", ha="right", va="center", color=INK)
            words = f"±{percent(span)}"
            axes.annotate(words, (1, 0), (6, 0), side, "offset points", va="center", fontsize=SMALL, color=SOFT)
            if index == len(moved) - 1:
                for place, words in ((1, "round 1"), (count, str(count))):
                    axes.annotate(
                        words, (place, -span), (0, -7), textcoords="offset points", ha="center", va="top",
                        fontsize=SMALL, color=SOFT,
                    )  # fmt: skip
        title = "From round to round"
        finding = _finding(moved, labels)
        svg = inline(figure, name, title, finding)
    note = f"The median of each round, against the median of all rounds; beyond ±{percent(span)} it is cut."
    return Chart(svg, title, note, finding, _data(moved, labels), HALF)


def _finding(moved: Sequence[Any], labels: Sequence[str]) -> str:
    said = []
    for each, label in zip(moved, labels, strict=True):
        third = max(1, len(each) // 3)
        change = (1 + float(np.median(each[-third:]))) / (1 + float(np.median(each[:third]))) - 1
        word = "slower" if change > 0 else "faster"
        said.append(
            f"{label} stayed as fast as it was."
            if abs(change) < 0.01
            else f"{label}'s last third of the rounds was {percent(abs(change))} {word} than its first."
        )
    return " ".join(said)


def _data(moved: Sequence[Any], labels: Sequence[str]) -> Any:
    parts = [np.array_split(each, min(PARTS, len(each))) for each in moved]
    return table(
        "Median of each part of the run, against the median of all",
        ["runtime", *(f"part {index + 1}" for index in range(len(parts[0])))],
        [[label, *(f"{np.median(part):+.1%}" for part in each)] for label, each in zip(labels, parts, strict=True)],
    )
