"""Each runtime's time as a share of the baseline's, with the interval in which it lies."""

from collections.abc import Sequence

from attn_export.exporter.records.latency import Timing
from attn_export.exporter.report.charts.axes import (
    HALF,
    LONGEST_NAME,
    SMALL,
    draw_ticks,
    room_for,
    scale_for,
)
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.palette import INK, SOFT, colour, marker
from attn_export.exporter.report.charts.svg import canvas, inline, panel
from attn_export.exporter.report.findings.latency import ratio_sentence
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import interval, ratio, shortened

ROW = 34.0
TOP, BOTTOM = 26.0, 24.0
WORDS = 116.0  # the figures to the right


def ratios(name: str, timings: Sequence[Timing], labels: Sequence[str], confidence: str) -> Chart | None:
    """A forest plot: one row for each runtime but the baseline; None where there is only that.

    Args:
        name: of the chart, the same for no other.
        timings: of one batch, the first being the baseline.
        labels: of the runtimes.
        confidence: of the intervals, as it is said: "99 %".
    """
    rows = [(i, t, label) for i, (t, label) in enumerate(zip(timings, labels, strict=True)) if i]
    if not rows:
        return None
    baseline = labels[0]
    ends = [end for _, t, _ in rows for end in t.ratio_interval]
    scale = scale_for([*ends, 1.0], 0.06)
    left = room_for([label for _, _, label in rows])
    with canvas(HALF, TOP + ROW * len(rows) + BOTTOM) as figure:
        axes = panel(figure, left, TOP, HALF - left - WORDS, ROW * len(rows))
        scale.set_on(axes)
        axes.set_ylim(len(rows) * ROW, 0)
        draw_ticks(axes, scale, "×")
        axes.plot([1, 1], [-8, len(rows) * ROW], color=INK, linewidth=1.2)
        axes.annotate(
            shortened(f"as {baseline}", LONGEST_NAME), (1, 0), (0, 11), textcoords="offset points", ha="center",
            fontsize=SMALL, color=SOFT,
        )  # fmt: skip
        side, other = axes.get_yaxis_transform(), axes.get_yaxis_transform()
        for row, (index, t, label) in enumerate(rows):
            middle = (row + 0.5) * ROW
            low, high = t.ratio_interval
            axes.plot([low, high], [middle, middle], color=colour(index), linewidth=2)
            for end in (low, high):
                axes.plot([end, end], [middle - 5, middle + 5], color=colour(index), linewidth=1.4)
            axes.plot([t.ratio], [middle], marker(index), color=colour(index), markersize=6)
            text = shortened(label, LONGEST_NAME)
            axes.annotate(text, (0, middle), (-12, 0), side, "offset points", ha="right", va="center", color=INK)
            words = f"{ratio(t.ratio)}, {shortened(t.verdict, 12)}"
            axes.annotate(words, (1, middle), (10, 6), other, "offset points", va="center", fontsize=SMALL, color=INK)
            between = interval(t.ratio_interval)
            axes.annotate(between, (1, middle), (10, -7), other, "offset points", va="center", fontsize=10, color=SOFT)
        title = f"Time against {baseline}, with {confidence} intervals"
        finding = " ".join(ratio_sentence(t, label, baseline) for _, t, label in rows)
        svg = inline(figure, name, title, finding)
    data = table(
        title,
        ["runtime", "ratio", "lowest", "highest", "<verdict"],
        [[label, ratio(t.ratio), *(ratio(end) for end in t.ratio_interval), t.verdict] for _, t, label in rows],
    )
    note = "Left of the line is faster. A verdict takes an interval that lies wholly on one side."
    return Chart(svg, title, note, finding, data, HALF)
