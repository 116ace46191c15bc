"""How the latencies of each runtime are distributed: nothing is cut off, the slowest inference is on the page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from attn_export.exporter.records.latency import Timing
from attn_export.exporter.report.charts.axes import (
    HALF,
    LONGEST_NAME,
    SMALL,
    Scale,
    draw_ticks,
    room_for,
    scale_for,
)
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.palette import INK, PAPER, SOFT, colour
from attn_export.exporter.report.charts.svg import canvas, inline, panel
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import decimals, milliseconds, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = np.ndarray[Any, np.dtype[np.float64]]

ROW = 46.0
RIDGE = 30.0  # how high the densest place of a row is
TOP, BOTTOM = 8.0, 24.0
PLACES = 240  # at which a density is computed
SHARES = (0, 10, 25, 50, 75, 90, 99, 100)
MOST_DOTS = 60  # of the slowest inferences of a runtime


def distributions(name: str, timings: Sequence[Timing], labels: Sequence[str]) -> Chart:
    """One row for each runtime: the density of all timed inferences, and each of the slowest as a dot.

    Args:
        name: of the chart, the same for no other.
        timings: of one batch.
        labels: of the runtimes, as everywhere on the page.
    """
    times = [np.asarray(t.rounds_ms, np.float64).ravel() for t in timings]
    scale = scale_for([float(v) for each in times for v in (each.min(), each.max())])
    left = room_for(labels)
    height = TOP + ROW * len(times) + BOTTOM
    with canvas(HALF, height) as figure:
        axes = panel(figure, left, TOP, HALF - left - 22, ROW * len(times))
        scale.set_on(axes)
        axes.set_ylim(len(times) * ROW, 0)
        draw_ticks(axes, scale, "ms")
        for index, (each, label) in enumerate(zip(times, labels, strict=True)):
            _row(axes, scale, each, index, label)
        title = "Every timed inference"
        finding = _finding(times, labels)
        svg = inline(figure, name, title, finding)
    note = "Dark line: the median. Short line: p90. Dots: the slowest hundredth, one by one."
    note += " Equal distances are equal ratios." if scale.logarithmic else ""
    return Chart(svg, title, note, finding, _data(times, labels), HALF)


def _row(axes: "Axes", scale: Scale, times: Values, index: int, label: str) -> None:
    base = (index + 1) * ROW - 8
    tone = colour(index)
    places, dense = density(times, scale)
    ridge = base - dense * RIDGE
    axes.fill(
        [places[0], *places, places[-1]], [base, *ridge, base], color=tone, alpha=0.32, linewidth=0, clip_on=False
    )
    axes.plot(places, ridge, color=tone, linewidth=1.2)
    axes.plot([times.min(), times.max()], [base, base], color=tone, linewidth=1.2, solid_capstyle="round")
    middle, p90, p99 = np.percentile(times, (50, 90, 99))
    slow = np.sort(times[times > p99])[-MOST_DOTS:]
    axes.plot(slow, np.full(len(slow), base), "o", markersize=4, color=tone, markeredgecolor=PAPER, markeredgewidth=0.6)
    axes.plot([p90, p90], [base - 5, base + 5], color=tone, linewidth=1.6)
    axes.plot([middle, middle], [base - RIDGE - 3, base + 5], color=INK, linewidth=1.8)
    side = axes.get_yaxis_transform()
    name = shortened(label, LONGEST_NAME)
    axes.annotate(name, (0, base), (-12, 16), side, "offset points", ha="right", va="center", fontsize=12, color=INK)
    spelled = f"{milliseconds(float(middle))} ms"
    axes.annotate(spelled, (0, base), (-12, 0), side, "offset points", ha="right", fontsize=SMALL, color=SOFT)


def density(times: Values, scale: Scale) -> tuple[Values, Values]:
    """How dense values lie, by a Gaussian kernel on the axis that they are drawn on.

    Returns:
        Places between the smallest and the largest value, and the density there, at most 1.
    """
    on_axis = np.log(times) if scale.logarithmic else times
    low, high = (float(v) for v in (on_axis.min(), on_axis.max()))
    across = (np.log(scale.high / scale.low) if scale.logarithmic else scale.high - scale.low) or 1.0
    quartiles = np.percentile(on_axis, (25, 75))
    spread = min(float(on_axis.std()), float(quartiles[1] - quartiles[0]) / 1.34)
    # Silverman's rule of thumb; never finer than what can be seen.
    bandwidth = max(0.9 * spread * len(times) ** -0.2, across / 250)
    places = np.linspace(low, high, PLACES)
    counts, edges = np.histogram(on_axis, bins=PLACES, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    dense = np.exp(-0.5 * ((places[:, None] - centres[None, :]) / bandwidth) ** 2) @ counts
    return (np.exp(places) if scale.logarithmic else places), dense / dense.max()


def _finding(times: Sequence[Values], labels: Sequence[str]) -> str:
    said = []
    for each, label in zip(times, labels, strict=True):
        low, middle, high, worst = (float(v) for v in np.percentile(each, (5, 50, 95, 100)))
        said.append(
            f"{label}: half of the inferences take less than {milliseconds(middle)} ms, nine of ten between "
            f"{milliseconds(low)} and {milliseconds(high)} ms, the slowest {milliseconds(worst)} ms."
        )
    return " ".join(said)


def _data(times: Sequence[Values], labels: Sequence[str]) -> Any:
    names = {0: "fastest", 50: "median", 100: "slowest"}
    found = [[float(v) for v in np.percentile(each, SHARES)] for each in times]
    places = decimals([value for row in found for value in row])
    return table(
        "Percentiles of all timed inferences, in ms",
        ["runtime", "inferences", *(names.get(share, f"p{share}") for share in SHARES)],
        [
            [label, str(len(each)), *(milliseconds(value, places) for value in row)]
            for label, each, row in zip(labels, times, found, strict=True)
        ],
    )
