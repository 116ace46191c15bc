"""One attention block as boxes and arrows, before and after the cleanup."""

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from attn_export.exporter.report.charts.axes import HALF, SMALL, WIDE
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.layered import Drawing, layered
from attn_export.exporter.report.charts.palette import INK, PAPER, SOFT, colour
from attn_export.exporter.report.charts.svg import canvas, drawing_board, inline
from attn_export.exporter.report.findings.graphs import Part, without_constants
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import counted, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Place = tuple[float, int]

LAYER, BOX, TIGHT = 36.0, 22.0, 22.0  # from layer to layer, height of a box, and of one in a tall drawing
WIDEST_BOX, SIDE_GAP = 132.0, 12.0
NARROWEST_BOX = 100.0  # with its gap; more boxes side by side need the whole page
TALL = 20  # layers from which on a drawing is drawn tighter
GATES = ("Sigmoid", "HardSigmoid")
SQUEEZES = ("ReduceMean", "ReduceMax", "GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool", "ReduceSum")


def block(name: str, part: Part, title: str, kind: int, width: int) -> Chart:
    """The nodes of a block in layers by depth, from the map that goes in at the top to the gated map.

    Args:
        name: of the chart, the same for no other.
        part: the block.
        title: whose block, and when.
        kind: index of its colour.
        width: `width_for` it, or more.
    """
    drawn = without_constants(part)
    count = len(drawn.sources)
    drawing = _layered(drawn)
    labels = [*drawn.sources, *drawn.operators]
    step = LAYER if drawing.layers < TALL else TIGHT + 8
    box = min(WIDEST_BOX, (width - SIDE_GAP) / (drawing.width + 1) - SIDE_GAP)
    unit = box + SIDE_GAP
    left = (width - drawing.width * unit) / 2
    with canvas(width, drawing.layers * step + 4) as figure:
        board = drawing_board(figure)

        def at(point: Place) -> tuple[float, float]:
            return left + point[0] * unit, 2 + (point[1] + 0.5) * step

        _edges(board, drawing, at)
        for index, (label, place) in enumerate(zip(labels, drawing.places, strict=True)):
            _box(board, label, at(place), box, kind, outside=index < count)
        finding = _finding(part, title)
        svg = inline(figure, name, title, finding)
    data = table(
        "Operators of the block, and what each reads",
        ["operator", "<reads"],
        [
            [f"{i + 1} {operator}", ", ".join(_reading(part, read) for read in part.inputs[i])]
            for i, operator in enumerate(part.operators)
        ],
    )
    note = "Dashed: what the block reads. Filled: its gates. Weights and constants are not drawn."
    return Chart(svg, title, note, finding, data, width)


def width_for(part: Part) -> int:
    """Half of the page, or all of it where so many boxes stand side by side."""
    return HALF if _layered(without_constants(part)).width + 1 <= HALF / NARROWEST_BOX else WIDE


def _layered(part: Part) -> Drawing:
    """Sources become the first nodes."""
    count = len(part.sources)
    read = [tuple(count + i if i >= 0 else -1 - i for i in places) for places in part.inputs]
    return layered([*[()] * count, *read])


def _reading(part: Part, read: int) -> str:
    return f"{part.sources[-1 - read]} outside" if read < 0 else f"{read + 1} {part.operators[read]}"


def _finding(part: Part, title: str) -> str:
    return f"{title}: {counted(len(part.operators), 'node')}: {', '.join(part.operators)}."


def _edges(board: "Axes", drawing: Drawing, at: Callable[[Place], tuple[float, float]]) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    half = BOX / 2
    points: list[tuple[float, float]] = []
    codes = []
    heads = []
    for edge in drawing.edges:
        places = [at(point) for point in edge]
        places[0] = (places[0][0], places[0][1] + half)
        places[-1] = (places[-1][0], places[-1][1] - half - 3)
        points.append(places[0])
        codes.append(Path.MOVETO)
        for (x0, y0), (x1, y1) in pairwise(places):
            middle = (y0 + y1) / 2
            points += [(x0, middle), (x1, middle), (x1, y1)]
            codes += [Path.CURVE4] * 3
        heads.append(places[-1])
    if points:
        board.add_patch(PathPatch(Path(points, codes), fill=False, edgecolor=SOFT, linewidth=1.1, clip_on=False))
        board.plot([x for x, _ in heads], [y - 1 for _, y in heads], "v", markersize=5, color=SOFT, clip_on=False)


def _box(board: "Axes", label: str, at: tuple[float, float], width: float, kind: int, *, outside: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    tone = colour(kind)
    gate = label in GATES and not outside
    board.add_patch(
        FancyBboxPatch(
            (at[0] - width / 2 + 4, at[1] - BOX / 2 + 4),
            width - 8,
            BOX - 8,
            boxstyle="round,pad=4",
            facecolor=tone if gate else PAPER,
            edgecolor=SOFT if outside else tone,
            linewidth=2.0 if label in SQUEEZES and not outside else 1.2,
            linestyle=(0, (3, 3)) if outside else "solid",
            clip_on=False,
        )
    )
    words = shortened(label, max(4, int(width / 6.4)))
    board.text(
        *at, words, ha="center", va="center_baseline", fontsize=SMALL, color=PAPER if gate else SOFT if outside else INK
    )
