"""What charts of gates and outputs share: they stand side by side in the order of computation, in stages."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from attn_export.exporter.report.charts.axes import SMALL, WIDE, Scale, draw_upright_ticks, legend_places
from attn_export.exporter.report.charts.palette import INK, LINE, SOFT, colour, marker
from attn_export.exporter.report.charts.svg import panel
from attn_export.exporter.report.findings.words import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT, RIGHT, BOTTOM = 52.0, 24.0, 34.0
ACROSS = WIDE - LEFT - RIGHT
HEAD, LEGEND_ROW = 24.0, 18.0
NARROWEST_NAME = 50.0  # pixels for the name of a stage
LONGEST_WORDS = 44


def height_with(words: Sequence[str], height: float = 212.0) -> float:
    """Of the whole figure, with a panel of this height and these words in its legend."""
    return HEAD + LEGEND_ROW * _rows(words) + height + BOTTOM


def _rows(words: Sequence[str]) -> int:
    return max((row + 1 for _, row in legend_places(_short(words), ACROSS)), default=0)


def _short(words: Sequence[str]) -> list[str]:
    return [shortened(text, LONGEST_WORDS) for text in words]


def panel_in_order(
    figure: "Figure", comparisons: Sequence[tuple[str, str]], scale: Scale, words: Sequence[str], marks: str = ""
) -> "Axes":
    """A panel with a place for each tensor, the names of its stages below and a legend above.

    Args:
        figure: of the height that `height_with` says.
        comparisons: tensor and role of each.
        scale: of the y axis.
        words: of the legend, one for each series.
        marks: of the series; those of the palette if not given.
    """
    top = HEAD + LEGEND_ROW * _rows(words)
    height = float(figure.get_size_inches()[1] * 72) - top - BOTTOM
    axes = panel(figure, LEFT, top, ACROSS, height)
    scale.set_on(axes, vertical=True)
    axes.set_xlim(-0.8, len(comparisons) - 0.2)
    draw_upright_ticks(axes, scale)
    _draw_stages(axes, comparisons)
    short, at = _short(words), axes.transAxes
    for index, (text, (across, row)) in enumerate(zip(short, legend_places(short, ACROSS), strict=True)):
        line = 1 + (top - 10 - row * LEGEND_ROW) / height
        mark = marks[index] if marks else marker(index)
        axes.plot([(across + 5) / ACROSS], [line], mark, transform=at, color=colour(index), markersize=6)
        axes.annotate(
            text, ((across + 14) / ACROSS, line), xycoords=at, va="center_baseline", fontsize=SMALL, color=INK
        )
    return axes


def _draw_stages(axes: "Axes", comparisons: Sequence[tuple[str, str]]) -> None:
    """The names of the network's stages below, with a line between them."""
    side, start = axes.get_xaxis_transform(), 0
    step = ACROSS / (len(comparisons) + 0.6)
    for key, members in groupby(comparisons, key=lambda pair: stage_of(*pair)):
        count = len(list(members))
        if start:
            axes.plot([start - 0.5, start - 0.5], [-0.06, 1], transform=side, color=LINE, linewidth=1)
        room = max(NARROWEST_NAME, count * step)
        axes.annotate(
            shortened(key, max(3, int(room / 6.2))), (start + (count - 1) / 2, 0), (0, -8), side, "offset points",
            ha="center", va="top", fontsize=SMALL, color=SOFT,
        )  # fmt: skip
        start += count


def stage_of(tensor: str, role: str) -> str:
    """The first part of a gate's module path; all outputs are one stage."""
    return "outputs" if role == "output" else tensor.partition(".")[0]
