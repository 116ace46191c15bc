"""What the charts share: scales with ticks that people would have chosen, and rows with names to their left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attn_export.exporter.report.charts.palette import LINE, SOFT
from attn_export.exporter.report.findings.words import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE, HALF = 1080, 528  # a chart over the whole page, and one of two beside each other
SMALL = 11.0  # of labels, in CSS pixels
LETTER = 7.0  # how wide one of a name is, at most on average
LONGEST_NAME = 30
LEGEND_GAP = 34.0  # from the end of one entry to the beginning of the next
LOGARITHMIC_FROM = 6.0  # where the largest is so many times the smallest, small differences would vanish
MOST_TICKS = 7


@dataclass(frozen=True)
class Scale:
    """Where values lie on an axis.

    Attributes:
        low, high: its ends.
        logarithmic: equal ratios are equal distances.
    """

    low: float
    high: float
    logarithmic: bool = False

    def ticks(self, most: int = MOST_TICKS) -> list[float]:
        """Round values between the ends."""
        for step in _steps(self):
            found = [v for v in step if self.low * (1 - 1e-9) <= v <= self.high * (1 + 1e-9)]
            if 2 <= len(found) <= most:
                return found
        return [self.low, self.high]

    def set_on(self, axes: "Axes", *, vertical: bool = False) -> None:
        """Give an axis these ends and this kind."""
        name = "y" if vertical else "x"
        axes.set(**{f"{name}scale": "log" if self.logarithmic else "linear", f"{name}lim": (self.low, self.high)})
        which = axes.yaxis if vertical else axes.xaxis
        which.set_ticks([], minor=False)
        which.set_ticks([], minor=True)


def _steps(scale: Scale) -> list[list[float]]:
    """Candidates, the finest first."""
    if scale.logarithmic:
        low, high = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
        decades = [10.0**power for power in range(low, high + 1)]
        ladders = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))
        return [[m * d for d in decades for m in ladder] for ladder in ladders] + [
            decades[::skip] for skip in (2, 3, 4, 6)
        ]
    span = scale.high - scale.low
    if span <= 0:
        return []
    smallest = 10.0 ** (math.floor(math.log10(span)) - 1)
    return [
        [step * i for i in range(math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9) + 1)]
        for step in (smallest * factor for factor in (1, 2, 2.5, 5, 10, 20, 25, 50))
    ]


def scale_for(values: Sequence[float], margin: float = 0.04, *, logarithmic: bool | None = None) -> Scale:
    """A scale that holds all values, with a margin; logarithmic where they are far apart, if that isn't said."""
    low, high = min(values), max(values)
    if logarithmic is None:
        logarithmic = low > 0 and high / low >= LOGARITHMIC_FROM
    if logarithmic:
        room = max(math.log(high / low) * margin, 0.02)
        return Scale(low / math.exp(room), high * math.exp(room), True)
    room = max((high - low) * margin, abs(high) * 0.01, 1e-12)
    return Scale(max(0.0, low - room) if low >= 0 else low - room, high + room)


def tick_words(values: Sequence[float]) -> list[str]:
    """All with the same number of decimals where they are evenly spaced, else each as short as it can be."""
    words = [f"{value:.0f}" if 1000 <= value < 1e6 else f"{value:.3g}" for value in values]
    if any("e" in word for word in words):
        return [_power(value) for value in values]
    if len(values) > 2 and math.isclose(values[1] - values[0], values[-1] - values[-2], rel_tol=1e-6):
        places = max(len(word.partition(".")[2]) for word in words)
        return [f"{value:.{places}f}" for value in values]
    return words


def _power(value: float) -> str:
    """``1e-6``, ``3e-6``."""
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def draw_ticks(axes: "Axes", scale: Scale, unit: str = "", *, top: float = 1.0) -> None:
    """Ticks below the axes with fine lines up into them, and the unit at the end of the last.

    Args:
        axes: with the scale set.
        scale: of the x axis.
        unit: said with the last tick.
        top: how far up the lines go, as a share of the height.
    """
    values = scale.ticks()
    words = tick_words(values)
    if unit:
        words[-1] += f" {unit}"
    place = axes.get_xaxis_transform()
    for value, text in zip(values, words, strict=True):
        axes.plot([value, value], [0, top], transform=place, color=LINE, linewidth=0.8, zorder=0)
        axes.annotate(
            text, (value, 0), (0, -5), place, "offset points", ha="center", va="top", fontsize=SMALL, color=SOFT
        )


def draw_upright_ticks(axes: "Axes", scale: Scale, most: int = 6) -> None:
    """The same for the y axis: words to the left, lines across."""
    values = scale.ticks(most)
    place = axes.get_yaxis_transform()
    for value, text in zip(values, tick_words(values), strict=True):
        axes.plot([0, 1], [value, value], transform=place, color=LINE, linewidth=0.8, zorder=0)
        axes.annotate(
            text, (0, value), (-6, 0), place, "offset points", ha="right", va="center", fontsize=SMALL, color=SOFT
        )


def room_for(names: Sequence[str]) -> float:
    """Pixels that names to the left of rows take."""
    return max((len(shortened(name, LONGEST_NAME)) for name in names), default=0) * LETTER + 14


def legend_places(words: Sequence[str], width: float) -> list[tuple[float, int]]:
    """Where the entries of a legend begin, in pixels, and in which row: they go on in the next where one is full."""
    places, across, row = [], 0.0, 0
    for text in words:
        taken = len(text) * LETTER + LEGEND_GAP
        if across and across + taken > width:
            across, row = 0.0, row + 1
        places.append((across, row))
        across += taken
    return places
