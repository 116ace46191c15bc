"""Latency ratios to the baseline with confidence intervals, as a forest plot."""

from collections.abc import Sequence

from attn_export.exporter.records.latency import Timing
from attn_export.exporter.report.charts.axes import LONGEST_NAME, far_apart, name_rows, set_ticks, write_beside
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.palette import INK, SOFT, colour, marker
from attn_export.exporter.report.charts.svg import HALF, canvas, inline
from attn_export.exporter.report.findings.latency import ratio_sentence
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import interval, ratio, shortened

ROW, REST = 40.0, 56.0  # CSS pixels of a row, and of everything else


def ratios(name: str, timings: Sequence[Timing], labels: Sequence[str], confidence: str) -> Chart | None:
    """A row for each runtime except the baseline; None if there is no other.

    Args:
        name: unique among the charts of the page.
        timings: of one batch, the baseline first.
        labels: of the runtimes.
        confidence: of the intervals, as text: "99 %".
    """
    baseline, others = labels[0], list(zip(timings, labels, strict=True))[1:]
    if not others:
        return None
    with canvas(HALF, ROW * len(others) + REST) as figure:
        axes = figure.subplots()
        axes.set_xscale("log" if far_apart([1.0, *(e for t, _ in others for e in t.ratio_interval)]) else "linear")
        axes.axvline(1, color=INK, linewidth=1.2)
        for row, (t, _) in enumerate(others):
            tone = colour(row + 1)
            axes.plot(t.ratio_interval, [row, row], "|-", color=tone, linewidth=2, markersize=10, markeredgewidth=1.4)
            axes.plot([t.ratio], [row], marker(row + 1), color=tone, markersize=7)
            write_beside(axes, row - 0.17, f"{ratio(t.ratio)}, {shortened(t.verdict, 12)}", INK)
            write_beside(axes, row + 0.2, interval(t.ratio_interval), SOFT)
        name_rows(axes, [label for _, label in others])
        axes.set_xlabel(f"latency ÷ latency of {shortened(baseline, LONGEST_NAME)}")
        set_ticks(axes.xaxis)
        title = f"Latency ratio to {baseline}, with {confidence} confidence intervals"
        finding = " ".join(ratio_sentence(t, label, baseline) for t, label in others)
        svg = inline(figure, name, title, finding)
    data = table(
        title,
        ["runtime", "ratio", "lower end", "upper end", "<verdict"],
        [[label, ratio(t.ratio), *(ratio(end) for end in t.ratio_interval), t.verdict] for t, label in others],
    )
    note = "Below 1 is faster. There is a verdict only where the whole interval lies on one side of 1."
    return Chart(svg, title, note, finding, data, HALF)
