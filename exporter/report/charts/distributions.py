"""Distributions of latencies; the slowest inference is always part of the picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from attn_export.exporter.records.latency import Timing
from attn_export.exporter.report.charts.axes import far_apart, name_rows, set_ticks, write_beside
from attn_export.exporter.report.charts.palette import INK, PAPER, colour
from attn_export.exporter.report.charts.svg import HALF, Chart, canvas, finished
from attn_export.exporter.report.findings.table import Table, table
from attn_export.exporter.report.findings.words import decimals, milliseconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = np.ndarray[Any, np.dtype[np.float64]]

ROW, REST = 46.0, 52.0  # CSS pixels of a row, and of everything else
BINS = 90
BASE, HEIGHT = 0.38, 0.7  # of a histogram, in rows
PERCENTILES = (0, 10, 25, 50, 75, 90, 99, 100)
MOST_DOTS = 60  # of the slowest inferences of a runtime


def distributions(name: str, timings: Sequence[Timing], labels: Sequence[str]) -> Chart:
    """A histogram of all timed inferences for each runtime, with the slowest as dots."""
    times = [np.asarray(t.rounds_ms, np.float64).ravel() for t in timings]
    low, high = min(float(each.min()) for each in times) * 0.999, max(float(each.max()) for each in times) * 1.001
    logarithmic = far_apart([low, high])
    edges = (np.geomspace if logarithmic else np.linspace)(low, high, BINS + 1)
    with canvas(HALF, ROW * len(times) + REST) as figure:
        axes = figure.subplots()
        axes.margins(x=0.03)
        axes.set_xscale("log" if logarithmic else "linear")
        for row, each in enumerate(times):
            _draw(axes, row, each, edges)
        name_rows(axes, labels)
        axes.set_xlabel("latency of a batch, ms")
        set_ticks(axes.xaxis)
        note = "Tall line and figure: the median. Short line: p90. Dots: the slowest 1 %, one by one."
        note += " The axis is logarithmic." if logarithmic else ""
        return finished(figure, name, _finding(times, labels), _data(times, labels), note=note)


def _draw(axes: "Axes", row: int, times: Values, edges: Values) -> None:
    base, tone = row + BASE, colour(row)
    counts, _ = np.histogram(times, edges)
    axes.stairs(base - HEIGHT * counts / counts.max(), edges, baseline=base, fill=True, color=tone, alpha=0.45)
    axes.plot([times.min(), times.max()], [base, base], color=tone, linewidth=1.2)
    median, p90, p99 = np.percentile(times, (50, 90, 99))
    slow = np.sort(times[times > p99])[-MOST_DOTS:]
    axes.plot(slow, np.full(len(slow), base), "o", markersize=4, color=tone, markeredgecolor=PAPER, markeredgewidth=0.6)
    axes.plot([p90, p90], [base - 0.12, base + 0.1], color=tone, linewidth=1.6)
    axes.plot([median, median], [base - HEIGHT - 0.06, base + 0.1], color=INK, linewidth=1.6)
    write_beside(axes, row, f"{milliseconds(float(median))} ms", INK)


def _finding(times: Sequence[Values], labels: Sequence[str]) -> str:
    words = [[milliseconds(float(v)) for v in np.percentile(each, (50, 99, 100))] for each in times]
    return " ".join(
        f"{label}: the median is {median} ms, p99 {p99} ms, the slowest inference took {slowest} ms."
        for label, (median, p99, slowest) in zip(labels, words, strict=True)
    )


def _data(times: Sequence[Values], labels: Sequence[str]) -> Table:
    names = {0: "fastest", 50: "median", 100: "slowest"}
    rows = [[float(v) for v in np.percentile(each, PERCENTILES)] for each in times]
    places = decimals([value for row in rows for value in row])
    return table(
        "Every timed inference, in ms",
        ["runtime", "inferences", *(names.get(share, f"p{share}") for share in PERCENTILES)],
        [
            [label, str(len(each)), *(milliseconds(value, places) for value in row)]
            for label, each, row in zip(labels, times, rows, strict=True)
        ],
    )
