"""How the error of each gate grows from one precision to the next."""

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.charts.axes import WIDE, scale_for
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.in_order import height_with, panel_in_order
from attn_export.exporter.report.charts.palette import PAPER, colour, marker
from attn_export.exporter.report.charts.svg import canvas, inline
from attn_export.exporter.report.findings.precision import errors_by_tensor, growth_table
from attn_export.exporter.report.findings.words import error, known

SMALLEST = 1e-12


def growth(name: str, report: Report) -> Chart | None:
    """Absolute errors of all gates and outputs in all artifacts; None where fewer than two were compared.

    Args:
        name: of the chart, the same for no other.
        report: of any run.
    """
    tensors, found = errors_by_tensor(report)
    if len(found) < 2 or not tensors:
        return None
    values = {path: [known(of[tensor].error) for tensor in tensors] for path, of in found.items()}
    baselines = {path: [known(of[tensor].baseline) for tensor in tensors] for path, of in found.items()}
    finite = [max(v, SMALLEST) for both in (values, baselines) for each in both.values() for v in each if v is not None]
    scale = scale_for(finite, 0.08, logarithmic=True)
    order = [(tensor, next(iter(found.values()))[tensor].role) for tensor in tensors]
    hints = {}
    with canvas(WIDE, height_with(list(found))) as figure:
        axes = panel_in_order(figure, order, scale, list(found))
        for index, (path, each) in enumerate(values.items()):
            tone, steps = colour(index), range(len(tensors))
            axes.step(
                steps,
                [float("nan") if v is None else v for v in baselines[path]],
                where="mid",
                color=tone,
                linewidth=1,
                alpha=0.55,
            )
            shown = [scale.high / 1.05 if v is None else max(v, scale.low * 1.02) for v in each]
            gid = f"dots-{index}"
            hints[gid] = [f"{tensor} in {path}: {error(v)}" for tensor, v in zip(tensors, each, strict=True)]
            axes.plot(
                steps, shown, marker(index), gid=gid, color=tone, markersize=6 if len(tensors) < 60 else 4.5,
                markeredgecolor=PAPER, markeredgewidth=0.6,
            )  # fmt: skip
        title = "Error of every gate and output in each artifact"
        finding = _finding(tensors, values)
        svg = inline(figure, name, title, finding, hints)
    note = "Relative to the tensor's size. Lines: PyTorch's own error in that precision."
    return Chart(svg, title, note, finding, growth_table(report), WIDE)


def _finding(tensors: list[str], values: dict[str, list[float | None]]) -> str:
    said = []
    for path, each in values.items():
        known = [(v, tensor) for v, tensor in zip(each, tensors, strict=True) if v is not None]
        if known:
            low, high = min(known), max(known)
            said.append(f"{path}: errors from {error(low[0])} ({low[1]}) to {error(high[0])} ({high[1]}).")
    return " ".join(said)
