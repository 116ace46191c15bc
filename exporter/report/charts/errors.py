"""Error ratios of all gates and outputs of an artifact, in the order of computation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attn_export.exporter.records.verdict import Comparison, Verdict
from attn_export.exporter.report.charts.axes import LONGEST_NAME, add_legend, legend_height, set_ticks
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.in_order import ACROSS, draw_markers, ordered_axes
from attn_export.exporter.report.charts.palette import BAD
from attn_export.exporter.report.charts.svg import WIDE, canvas, inline
from attn_export.exporter.report.findings.errors import severity, shapes_of, worst_of
from attn_export.exporter.report.findings.table import Table, table
from attn_export.exporter.report.findings.words import known, shape, shortened, times

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

HEIGHT = 250.0
SMALLEST = 1e-3  # smaller ratios are drawn here
MOST_NAMED = 3
BESIDE = 11.0  # CSS pixels between the markers of a tensor


def errors(name: str, path: str, verdict: Verdict) -> Chart:
    """Error ratios on a logarithmic axis, a marker for each batch shape, and the limit as a line.

    Args:
        name: unique among the charts of the page.
        path: of the artifact.
        verdict: on it.
    """
    comparisons = verdict.comparisons
    shapes = shapes_of(comparisons)
    words = [of_shape.replace("x", "×") for of_shape in shapes]
    limit = max(c.limit for c in comparisons)
    ratios = [severity(c) for c in comparisons] + [r for c in comparisons for r in c.shapes.values() if r]
    finite = [max(SMALLEST, value) for value in ratios if value != float("inf")]
    with canvas(WIDE, HEIGHT + legend_height(words, WIDE)) as figure:
        axes = ordered_axes(figure, [(c.tensor, c.role) for c in comparisons])
        axes.set(yscale="log", ylim=(min([*finite, 0.1]) / 1.5, max([*finite, limit]) * 2.5), ylabel="error ratio")
        set_ticks(axes.yaxis)
        axes.axhline(limit, color=BAD, linewidth=1.4, linestyle=(0, (5, 3)))
        edge = axes.get_yaxis_transform()
        axes.text(1, limit * 1.08, f"limit: {limit:g}×", transform=edge, ha="right", va="bottom", color=BAD)
        lines, hints = _draw(axes, comparisons, shapes)
        _ring(axes, comparisons)
        if words:
            add_legend(figure, lines, words, WIDE)
        title = f"{path}: error ratio to PyTorch's baseline error"
        finding = _finding(path, verdict, shapes)
        svg = inline(figure, name, title, finding, hints)
    note = "Gates in the order of computation, then the outputs. The axis is logarithmic."
    return Chart(svg, title, note, finding, _data(comparisons, shapes, title), WIDE)


def _draw(
    axes: "Axes", comparisons: Sequence[Comparison], shapes: Sequence[str]
) -> tuple[list["Line2D"], dict[str, list[str]]]:
    """A series for each batch shape, and the tooltips of its markers."""
    lines, hints = [], {}
    for index, of_shape in enumerate(shapes or [""]):
        xs, ys, texts = [], [], []
        for place, c in enumerate(comparisons):
            if shapes and of_shape not in c.shapes:
                continue
            value = known(c.shapes[of_shape] if shapes else c.ratio)
            xs.append(place + _aside(index, len(shapes), len(comparisons)))
            ys.append(_height(axes, value))
            texts.append(f"{c.tensor}: {times(value)}" + (f" at {of_shape.replace('x', '×')}" if shapes else ""))
        gid = f"shape-{index}"
        hints[gid] = texts
        lines.append(draw_markers(axes, xs, ys, index, gid=gid))
    return lines, hints


def _height(axes: "Axes", value: float | None) -> float:
    """Where a ratio is drawn; at the upper edge if it is not a number."""
    low, high = axes.get_ylim()
    return high / 1.15 if value is None else min(max(value, low * 1.1), high / 1.15)


def _ring(axes: "Axes", comparisons: Sequence[Comparison]) -> None:
    """Rings around the tensors that disagree, and the names of the first."""
    bad = [(place, _height(axes, known(c.ratio)), c) for place, c in enumerate(comparisons) if not c.agrees]
    xs, ys = [x for x, _, _ in bad], [y for _, y, _ in bad]
    axes.plot(xs, ys, "o", color="none", markersize=17, markeredgecolor=BAD, markeredgewidth=1.6)
    for x, y, c in bad[:MOST_NAMED]:
        left = x < len(comparisons) * 0.6
        axes.annotate(
            f"{shortened(c.tensor, LONGEST_NAME)}: {times(c.ratio)}", (x, y), (12 if left else -12, 0),
            textcoords="offset points", ha="left" if left else "right", va="center", color=BAD,
        )  # fmt: skip


def _aside(index: int, count: int, tensors: int) -> float:
    """The offset of a marker, so that the markers of one tensor stand side by side."""
    step = ACROSS / (tensors + 0.6)
    return 0.0 if count < 2 else (index / (count - 1) - 0.5) * min(0.5, BESIDE * (count - 1) / step)


def _finding(path: str, verdict: Verdict, shapes: Sequence[str]) -> str:
    sentences = [f"{path} {'agrees' if verdict.agrees else 'DISAGREES'}."]
    for role in ("gate", "output"):
        chosen = [c for c in verdict.comparisons if c.role == role]
        if worst := worst_of(chosen):
            beyond = sum(not c.agrees for c in chosen)
            sentences.append(
                f"The worst of {len(chosen)} {role}{'s' if len(chosen) > 1 else ''} is {worst.tensor} with an error "
                f"ratio of {times(worst.ratio)}; the limit is {worst.limit:g}×"
                + (f", and {beyond} {'is' if beyond == 1 else 'are'} beyond it." if beyond else ".")
            )
    for of_shape in shapes:
        values = [known(c.shapes[of_shape]) for c in verdict.comparisons if of_shape in c.shapes]
        top = max(float("inf") if value is None else value for value in values)
        sentences.append(f"At {of_shape.replace('x', '×')}: at most {times(top)}.")
    return " ".join(sentences)


def _data(comparisons: Sequence[Comparison], shapes: Sequence[str], title: str) -> Table:
    ratios = [[c.tensor, *(times(c.shapes[s]) if s in c.shapes else "" for s in shapes)] for c in comparisons]
    rows = [
        [*row, *([] if shapes else [times(c.ratio)]), f"{c.limit:g}×"]
        for row, c in zip(ratios, comparisons, strict=True)
    ]
    return table(
        title, ["tensor", *(shape(s.split("x")) for s in shapes), *([] if shapes else ["ratio"]), "limit"], rows
    )
