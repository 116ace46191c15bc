"""How many times as fast as the baseline each runtime is, with confidence intervals, as a forest plot."""

from collections.abc import Sequence

from attn_export.exporter.records.latency import Timing
from attn_export.exporter.report.charts.axes import far_apart, name_rows, set_ticks, write_beside
from attn_export.exporter.report.charts.palette import INK, SOFT, colour, marker
from attn_export.exporter.report.charts.svg import HALF, Chart, canvas, finished
from attn_export.exporter.report.findings.latency import speed_sentence
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import shortened, speed

ROW, REST = 40.0, 56.0  # CSS pixels of a row, and of everything else
SMALLEST = 1e-9  # ratio; a smaller one is drawn here


def speeds(name: str, timings: Sequence[Timing], labels: Sequence[str], confidence: str) -> Chart | None:
    """A row for each runtime except the baseline; None if there is no other.

    The baseline is the first timing; ``confidence`` is text: "99 %".
    """
    baseline, others = labels[0], list(zip(timings, labels, strict=True))[1:]
    if not others:
        return None
    times = [[1 / max(SMALLEST, value) for value in (t.ratio, *t.ratio_interval)] for t, _ in others]
    words = [speed(t.ratio, t.ratio_interval) for t, _ in others]
    with canvas(HALF, ROW * len(others) + REST) as figure:
        axes = figure.subplots()
        axes.set_xscale("log" if far_apart([1.0, *(value for row in times for value in row)]) else "linear")
        axes.axvline(1, color=INK, linewidth=1.2)
        for row, ((middle, *ends), (fast, between)) in enumerate(zip(times, words, strict=True)):
            tone = colour(row + 1)
            axes.plot(ends, [row, row], "|-", color=tone, linewidth=2, markersize=10, markeredgewidth=1.4)
            axes.plot([middle], [row], marker(row + 1), color=tone, markersize=7)
            write_beside(axes, row - 0.17, f"{fast}×, {shortened(others[row][0].verdict, 12)}", INK)
            write_beside(axes, row + 0.2, between, SOFT)
        name_rows(axes, [label for _, label in others])
        axes.set_xlabel(f"times as fast as {shortened(baseline, 30)}")
        set_ticks(axes.xaxis)
        data = table(
            f"Times as fast as {baseline}, with {confidence} confidence intervals",
            ["runtime", "times as fast", "interval", "<verdict"],
            [[label, *both, t.verdict] for (t, label), both in zip(others, words, strict=True)],
        )
        finding = " ".join(speed_sentence(t, label, baseline) for t, label in others)
        note = "There is a verdict only where the whole interval lies on one side of 1."
        return finished(figure, name, finding, data, note=note)
