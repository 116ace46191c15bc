"""Scales, named rows, and legends of charts."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from attn_export.exporter.report.charts.palette import INK
from attn_export.exporter.report.findings.words import shortened

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

LETTER = 7.0  # CSS pixels of an average letter, at most
LONGEST_NAME = 30
LONGEST_ENTRY = 44
LEGEND_ROW = 18.0
LEGEND_MARK = 40.0  # CSS pixels of a marker and the space around an entry of a legend
LOGARITHMIC_FROM = 6.0  # quotient of the largest and the smallest value
LABELLED_MULTIPLES_UP_TO = 1000.0  # quotient up to which 2 and 5 times a power of ten have ticks too


def far_apart(values: Sequence[float]) -> bool:
    """Whether the values need a logarithmic scale: on a linear one, small differences would vanish."""
    return min(values) > 0 and max(values) >= LOGARITHMIC_FROM * min(values)


def set_ticks(axis: "Axis") -> None:
    """Few round ticks in plain decimals; the scale and the limits of the axis must be final."""
    axis.set_minor_locator(NullLocator())
    axis.set_major_locator(_locator(axis))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _locator(axis: "Axis") -> Locator:
    low, high = axis.get_view_interval()
    if axis.get_scale() != "log" or high < 10 * low:
        return MaxNLocator(6, steps=[1, 2, 2.5, 5, 10])
    return LogLocator(subs=(1, 2, 5) if high < LABELLED_MULTIPLES_UP_TO * low else (1,))


def name_rows(axes: "Axes", names: Sequence[str], longest: int = LONGEST_NAME) -> None:
    """Rows 0, 1, 2, ... from top to bottom with their names on the left."""
    axes.set_yticks(range(len(names)), labels=[shortened(name, longest) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params("y", labelcolor=INK)
    axes.grid(visible=False, axis="y")


def write_beside(axes: "Axes", row: float, text: str, colour: str) -> None:
    """Text to the right of a row."""
    axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", color=colour)


def add_legend(figure: "Figure", handles: Iterable["Artist"], words: Sequence[str], width: int) -> None:
    """A legend above the axes, in as many rows as `legend_height` assumes."""
    handles, short = list(handles), [shortened(text, LONGEST_ENTRY) for text in words]
    columns = _columns(short, width)
    # The texts are set afterwards: matplotlib leaves out an entry whose text begins with an underscore.
    legend = figure.legend(handles, ["·"] * len(short), loc="outside upper left", ncols=columns, borderaxespad=0.2)
    for entry, text in zip(legend.get_texts(), short, strict=True):
        entry.set_text(text)


def legend_height(words: Sequence[str], width: int) -> float:
    """CSS pixels that a legend with these entries needs."""
    return LEGEND_ROW * -(-len(words) // _columns([shortened(text, LONGEST_ENTRY) for text in words], width))


def _columns(words: Sequence[str], width: int) -> int:
    return max(1, int(width // (max(map(len, words), default=1) * LETTER + LEGEND_MARK)))
