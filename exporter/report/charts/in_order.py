"""Axes for tensors in the order of computation, grouped by the network's stages."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from attn_export.exporter.report.charts.axes import LETTER
from attn_export.exporter.report.charts.palette import LINE, PAPER, colour, marker
from attn_export.exporter.report.charts.svg import WIDE
from attn_export.exporter.report.findings.words import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

ACROSS = WIDE - 70.0  # CSS pixels of the axes, at least
SHORTEST_NAME = 60.0  # CSS pixels for the name of a stage
MANY = 60  # tensors, from which on markers are smaller


def ordered_axes(figure: "Figure", tensors: Sequence[tuple[str, str]]) -> "Axes":
    """Axes with a position 0, 1, 2, ... for each tensor and the names of the stages below.

    Args:
        figure: as wide as the page.
        tensors: name and role of each.
    """
    axes = figure.subplots()
    axes.set_xlim(-0.8, len(tensors) - 0.2)
    axes.grid(visible=False, axis="x")
    step = ACROSS / (len(tensors) + 0.6)
    ticks, names, start, end = [], [], 0, 0.0
    for stage, members in groupby(tensors, key=lambda pair: stage_of(*pair)):
        count = len(list(members))
        name = shortened(stage, max(3, int(max(SHORTEST_NAME, count * step) / LETTER)))
        centre, half = (start + (count - 1) / 2 + 0.8) * step, len(name) * LETTER / 2
        if centre - half >= end:  # a name that would overlap the one before is left out
            ticks.append(start + (count - 1) / 2)
            names.append(name)
            end = centre + half
        if start:
            axes.axvline(start - 0.5, color=LINE, linewidth=1.6)
        start += count
    axes.set_xticks(ticks, labels=names)
    axes.tick_params("x", length=0)
    return axes


def draw_markers(axes: "Axes", xs: Sequence[float], ys: Sequence[float], index: int, *, gid: str) -> "Line2D":
    """The markers of a series, without lines."""
    count = axes.get_xlim()[1]
    (line,) = axes.plot(
        xs, ys, marker(index), gid=gid, color=colour(index), markersize=6 if count < MANY else 4.5,
        markeredgecolor=PAPER, markeredgewidth=0.6,
    )  # fmt: skip
    return line


def stage_of(tensor: str, role: str) -> str:
    """The first part of a gate's module path; all outputs are one stage."""
    return "outputs" if role == "output" else tensor.partition(".")[0]
