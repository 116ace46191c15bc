"""Errors of each gate and output in all artifacts."""

from collections.abc import Mapping, Sequence

from attn_export.exporter.records.report import Report
from attn_export.exporter.report.charts.axes import add_legend, legend_height, set_ticks
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.in_order import draw_markers, ordered_axes
from attn_export.exporter.report.charts.palette import colour
from attn_export.exporter.report.charts.svg import WIDE, canvas, inline
from attn_export.exporter.report.findings.precision import errors_by_tensor, growth_table
from attn_export.exporter.report.findings.words import error, known

HEIGHT = 250.0
SMALLEST = 1e-12  # smaller errors are drawn here


def growth(name: str, report: Report) -> Chart | None:
    """Errors of all gates and outputs in all artifacts; None if fewer than two artifacts were compared.

    Args:
        name: unique among the charts of the page.
        report: of any run.
    """
    tensors, artifacts = errors_by_tensor(report)
    if len(artifacts) < 2 or not tensors:
        return None
    values = {path: [known(of[tensor].error) for tensor in tensors] for path, of in artifacts.items()}
    baselines = {path: [known(of[tensor].baseline) for tensor in tensors] for path, of in artifacts.items()}
    finite = [
        max(v, SMALLEST) for by_path in (values, baselines) for each in by_path.values() for v in each if v is not None
    ]
    low, high = min(finite, default=0.5) / 2, max(finite, default=1.0) * 2
    roles = next(iter(artifacts.values()))
    hints = {}
    with canvas(WIDE, HEIGHT + legend_height(list(artifacts), WIDE)) as figure:
        axes = ordered_axes(figure, [(tensor, roles[tensor].role) for tensor in tensors])
        axes.set(yscale="log", ylim=(low, high), ylabel="relative error")
        set_ticks(axes.yaxis)
        lines = []
        for index, (path, each) in enumerate(values.items()):
            steps = [float("nan") if v is None else max(v, SMALLEST) for v in baselines[path]]
            axes.step(range(len(tensors)), steps, where="mid", color=colour(index), linewidth=1, alpha=0.55)
            heights = [high / 1.2 if v is None else max(v, SMALLEST) for v in each]
            lines.append(draw_markers(axes, range(len(tensors)), heights, index, gid=f"artifact-{index}"))
            hints[f"artifact-{index}"] = [f"{t} in {path}: {error(v)}" for t, v in zip(tensors, each, strict=True)]
        add_legend(figure, lines, list(artifacts), WIDE)
        title = "Error of every gate and output in each artifact"
        finding = _finding(tensors, values)
        svg = inline(figure, name, title, finding, hints)
    note = "Relative to the tensor's size. Lines: PyTorch's baseline error in the artifact's precision."
    return Chart(svg, title, note, finding, growth_table(report), WIDE)


def _finding(tensors: Sequence[str], values: Mapping[str, Sequence[float | None]]) -> str:
    sentences = []
    for path, each in values.items():
        numbers = [(v, tensor) for v, tensor in zip(each, tensors, strict=True) if v is not None]
        if numbers:
            low, high = min(numbers), max(numbers)
            sentences.append(f"{path}: errors from {error(low[0])} ({low[1]}) to {error(high[0])} ({high[1]}).")
    return " ".join(sentences)
