"""How far every gate and every output of an artifact is off, in the order of computation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attn_export.exporter.records.verdict import Comparison, Verdict
from attn_export.exporter.report.charts.axes import LONGEST_NAME, SMALL, WIDE, Scale
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.in_order import ACROSS, height_with, panel_in_order
from attn_export.exporter.report.charts.palette import BAD, PAPER, colour, marker
from attn_export.exporter.report.charts.svg import canvas, inline
from attn_export.exporter.report.findings.errors import severity, shapes_of, worst_of
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import known, shape, shortened, times

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALLEST = 1e-3  # a ratio below it is as good as none, and drawn there
MOST_NAMED = 3
BESIDE = 11.0  # pixels from mark to mark


def errors(name: str, path: str, verdict: Verdict) -> Chart:
    """Ratios to the baseline on a logarithmic axis, a mark for each shape, with the limit as a line.

    Args:
        name: of the chart, the same for no other.
        path: of the artifact.
        verdict: on it.
    """
    comparisons = verdict.comparisons
    shapes = shapes_of(comparisons)
    limit = max(c.limit for c in comparisons)
    found = [severity(c) for c in comparisons] + [r for c in comparisons for r in c.shapes.values() if r]
    finite = [max(SMALLEST, value) for value in found if value != float("inf")]
    scale = Scale(min([*finite, 0.1]) / 1.5, max([*finite, limit]) * 2.5, True)
    words = [of_shape.replace("x", "×") for of_shape in shapes]
    with canvas(WIDE, height_with(words)) as figure:
        axes = panel_in_order(figure, [(c.tensor, c.role) for c in comparisons], scale, words)
        axes.plot([-0.8, len(comparisons) - 0.2], [limit, limit], color=BAD, linewidth=1.4, linestyle=(0, (5, 3)))
        axes.annotate(
            f"allowed: {limit:g}×", (1, limit), (0, 5), axes.get_yaxis_transform(), "offset points", ha="right",
            fontsize=SMALL, color=BAD,
        )  # fmt: skip
        hints = _dots(axes, comparisons, shapes, scale)
        title = f"{path}: error as a multiple of PyTorch's own"
        finding = _finding(path, verdict, comparisons, shapes)
        svg = inline(figure, name, title, finding, hints)
    note = "Gates in the order of computation, then the outputs. Equal distances are equal ratios."
    return Chart(svg, title, note, finding, _data(comparisons, shapes, title), WIDE)


def _dots(axes: "Axes", comparisons: Sequence[Comparison], shapes: Sequence[str], scale: Scale) -> dict[str, Any]:
    """One artist for each shape; returns what a pointer is told of its dots."""
    hints: dict[str, list[str]] = {}
    for index, of_shape in enumerate(shapes or [""]):
        drawn = []
        for place, c in enumerate(comparisons):
            value = known(c.shapes.get(of_shape) if shapes and c.shapes else c.ratio)
            if shapes and of_shape not in c.shapes:
                continue
            high = scale.high / 1.15 if value is None else min(max(value, scale.low * 1.1), scale.high / 1.15)
            words = f"{c.tensor}: {times(value)}" + (f" at {of_shape.replace('x', '×')}" if shapes else "")
            drawn.append((place + _aside(index, len(shapes), len(comparisons)), high, words))
        if drawn:
            gid = f"dots-{index}"
            hints[gid] = [words for _, _, words in drawn]
            axes.plot(
                [x for x, _, _ in drawn], [y for _, y, _ in drawn], marker(index), gid=gid, color=colour(index),
                markersize=6 if len(comparisons) < 60 else 4.5, markeredgecolor=PAPER, markeredgewidth=0.6,
            )  # fmt: skip
    _rings(axes, comparisons, scale)
    return hints


def _rings(axes: "Axes", comparisons: Sequence[Comparison], scale: Scale) -> None:
    """What disagrees is ringed, and the first of it named."""
    bad = [(place, c) for place, c in enumerate(comparisons) if not c.agrees]
    heights = [min(severity(c), scale.high / 1.15) for _, c in bad]
    axes.plot(
        [place for place, _ in bad], heights, "o", color="none", markersize=17, markeredgecolor=BAD, markeredgewidth=1.6
    )
    for (place, c), height in list(zip(bad, heights, strict=True))[:MOST_NAMED]:
        left = place < len(comparisons) * 0.6
        axes.annotate(
            f"{shortened(c.tensor, LONGEST_NAME)}: {times(c.ratio)}", (place, height), (12 if left else -12, 0),
            textcoords="offset points", ha="left" if left else "right", va="center", fontsize=SMALL, color=BAD,
        )  # fmt: skip


def _aside(index: int, count: int, tensors: int) -> float:
    """Marks of several shapes stand beside each other, and nearer to each other than to those of the next tensor."""
    step = ACROSS / (tensors + 0.6)
    return 0.0 if count < 2 else (index / (count - 1) - 0.5) * min(0.5, BESIDE * (count - 1) / step)


def _finding(path: str, verdict: Verdict, comparisons: Sequence[Comparison], shapes: Sequence[str]) -> str:
    agrees = "agrees" if verdict.agrees else "DISAGREES"
    said = [f"{path} {agrees}."]
    for role in ("gate", "output"):
        chosen = [c for c in comparisons if c.role == role]
        if worst := worst_of(chosen):
            beyond = sum(not c.agrees for c in chosen)
            said.append(
                f"The worst of {len(chosen)} {role}{'s' if len(chosen) > 1 else ''}, {worst.tensor}, is at "
                f"{times(worst.ratio)} of the {worst.limit:g}× that are allowed"
                + (f"; {beyond} {'is' if beyond == 1 else 'are'} beyond." if beyond else ".")
            )
    for of_shape in shapes:
        values = [known(c.shapes[of_shape]) for c in comparisons if of_shape in c.shapes]
        top = max(float("inf") if value is None else value for value in values)
        said.append(f"At {of_shape.replace('x', '×')}: at most {times(top)}.")
    return " ".join(said)


def _data(comparisons: Sequence[Comparison], shapes: Sequence[str], title: str) -> Any:
    return table(
        title,
        ["tensor", *(shape(s.split("x")) for s in shapes or []), *([] if shapes else ["ratio"]), "allowed"],
        [
            [
                c.tensor,
                *(times(c.shapes.get(s)) if s in c.shapes else "" for s in shapes),
                *([] if shapes else [times(c.ratio)]),
                f"{c.limit:g}×",
            ]
            for c in comparisons
        ],
    )
