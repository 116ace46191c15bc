"""The error that each layer or block adds when it alone is quantized."""

from collections.abc import Sequence

from attn_export.exporter.records.quantization import Sensitivity
from attn_export.exporter.report.charts.axes import name_rows, set_ticks, write_beside
from attn_export.exporter.report.charts.palette import SOFT, colour
from attn_export.exporter.report.charts.svg import WIDE, Chart, canvas, finished
from attn_export.exporter.report.findings.quantization import sensitivity_rows, worst_sqnr

ROW, REST = 20.0, 46.0  # CSS pixels of a row, and of everything else
LONGEST_NAME = 44


def sensitivity_chart(name: str, kind: str, found: Sequence[Sensitivity]) -> Chart | None:
    """A bar for each layer or block, as long as its error is large; None without any."""
    data, shown = sensitivity_rows(found, kind)
    known = [(one, worst) for one in shown if (worst := worst_sqnr(one.quality)) is not None]
    if not known:
        return None
    errors = [100 * 10 ** (-decibels / 20) for _, decibels in known]
    with canvas(WIDE, ROW * len(known) + REST) as figure:
        axes = figure.subplots()
        axes.barh(range(len(known)), errors, height=0.6, color=colour(0))
        for y, (_, decibels) in enumerate(known):
            write_beside(axes, y, f"{decibels:.1f} dB", SOFT)
        name_rows(axes, [one.name for one, _ in known], LONGEST_NAME)
        axes.set_xlabel("error of the outputs, % of their size")
        set_ticks(axes.xaxis)
        finding = f"{known[0][0].name} adds the largest error, {errors[0]:.2g} % of the outputs."
        return finished(figure, name, finding, data, note="Errors of layers add up as squares.")
