"""Drift: the latency of each runtime from round to round. Drift that all runtimes share does not change the ratios."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from attn_export.exporter.records.latency import Timing
from attn_export.exporter.report.charts.axes import LONGEST_NAME, set_ticks, write_beside
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.palette import INK, LINE, SOFT, colour
from attn_export.exporter.report.charts.svg import HALF, canvas, inline
from attn_export.exporter.report.findings.table import Table, table
from attn_export.exporter.report.findings.words import percent, shortened

Changes = np.ndarray[Any, np.dtype[np.float64]]

ROW, REST = 36.0, 44.0  # CSS pixels of a row, and of everything else
SMALLEST_SPAN, LARGEST_SPAN = 0.05, 0.5
SPAN_PERCENTILE = 97  # of the changes; rare ones would flatten the rest and are clipped
PARTS = 10  # of the run, in the table


def drift(name: str, timings: Sequence[Timing], labels: Sequence[str]) -> Chart | None:
    """A small line chart for each runtime; None with fewer than three rounds.

    Args:
        name: unique among the charts of the page.
        timings: of one batch.
        labels: of the runtimes.
    """
    medians = [np.array([np.median(times) for times in t.rounds_ms]) for t in timings]
    rounds = len(medians[0])
    if rounds < 3:
        return None
    changes = [each / np.median(each) - 1 for each in medians]
    widest = max(float(np.percentile(np.abs(each), SPAN_PERCENTILE)) for each in changes)
    span = min(LARGEST_SPAN, max(SMALLEST_SPAN, widest))
    with canvas(HALF, ROW * len(changes) + REST) as figure:
        panels = figure.subplots(len(changes), sharex=True, squeeze=False)[:, 0]
        for index, (axes, each, label) in enumerate(zip(panels, changes, labels, strict=True)):
            axes.set(xlim=(1, rounds), ylim=(-span, span))
            axes.spines.bottom.set_visible(False)
            axes.tick_params("x", length=0)
            axes.axhspan(-span, span, color=LINE, alpha=0.35, linewidth=0)
            axes.plot(np.arange(1, rounds + 1), np.clip(each, -span, span), color=colour(index), linewidth=1.2)
            axes.set_yticks([0.0], labels=[shortened(label, LONGEST_NAME)], color=INK)
            write_beside(axes, 0, f"±{percent(span)}", SOFT)
        panels[-1].set_xlabel("round")
        set_ticks(panels[-1].xaxis)
        title = "From round to round"
        finding = _finding(changes, labels)
        svg = inline(figure, name, title, finding)
    note = f"The median of each round relative to the median of all rounds; clipped at ±{percent(span)}."
    return Chart(svg, title, note, finding, _data(changes, labels), HALF)


def _finding(changes: Sequence[Changes], labels: Sequence[str]) -> str:
    sentences = []
    for each, label in zip(changes, labels, strict=True):
        third = max(1, len(each) // 3)
        change = (1 + float(np.median(each[-third:]))) / (1 + float(np.median(each[:third]))) - 1
        sentences.append(
            f"{label} did not drift."
            if abs(change) < 0.01
            else f"The last third of {label}'s rounds was {percent(abs(change))} "
            f"{'slower' if change > 0 else 'faster'} than the first."
        )
    return " ".join(sentences)


def _data(changes: Sequence[Changes], labels: Sequence[str]) -> Table:
    parts = [np.array_split(each, min(PARTS, len(each))) for each in changes]
    return table(
        "Median of each part of the run, relative to the median of all rounds",
        ["runtime", *(f"part {index + 1}" for index in range(len(parts[0])))],
        [[label, *(f"{np.median(part):+.1%}" for part in each)] for label, each in zip(labels, parts, strict=True)],
    )
