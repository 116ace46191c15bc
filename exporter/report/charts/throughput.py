"""Images per second over the batch size."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attn_export.exporter.report.charts.axes import HALF, SMALL, Scale, draw_upright_ticks, scale_for
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.palette import INK, LINE, SOFT, colour, marker
from attn_export.exporter.report.charts.svg import canvas, inline, panel
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import ratio, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT, TOP, BOTTOM = 250.0, 14.0, 40.0
LEFT, RIGHT = 58.0, 150.0
LONGEST, CLOSEST = 22, 14.0


def throughput(name: str, rates: Mapping[str, Mapping[int, float]]) -> Chart | None:
    """One line for each runtime; None where there is a single batch size.

    Args:
        name: of the chart, the same for no other.
        rates: images per second by runtime and batch size.
    """
    batches = sorted({batch for of_runtime in rates.values() for batch in of_runtime})
    if len(batches) < 2:
        return None
    across = Scale(batches[0] / 1.15, batches[-1] * 1.15, True)
    up = scale_for([rate for of_runtime in rates.values() for rate in of_runtime.values()])
    with canvas(HALF, HEIGHT) as figure:
        axes = panel(figure, LEFT, TOP, HALF - LEFT - RIGHT, HEIGHT - TOP - BOTTOM)
        across.set_on(axes)
        up.set_on(axes, vertical=True)
        draw_upright_ticks(axes, up)
        side = axes.get_xaxis_transform()
        for batch in batches:
            axes.plot([batch, batch], [0, 1], transform=side, color=LINE, linewidth=0.8, zorder=0)
            axes.annotate(
                str(batch),
                (batch, 0),
                (0, -5),
                side,
                "offset points",
                ha="center",
                va="top",
                fontsize=SMALL,
                color=SOFT,
            )
        axes.annotate(
            "images in a batch", (1, 0), (0, -22), "axes fraction", "offset points", ha="right", va="top",
            fontsize=SMALL, color=SOFT,
        )  # fmt: skip
        for index, of_runtime in enumerate(rates.values()):
            drawn = sorted(of_runtime.items())
            axes.plot(*zip(*drawn, strict=True), marker=marker(index), color=colour(index), linewidth=1.6, markersize=7)
        _names(axes, rates)
        title = "Images per second over the batch size"
        finding = " ".join(_sentence(runtime, of_runtime) for runtime, of_runtime in rates.items())
        svg = inline(figure, name, title, finding)
    data = table(
        title,
        ["runtime", *(f"batch {batch}" for batch in batches)],
        [
            [runtime, *(f"{of_runtime[b]:.1f}" if b in of_runtime else "" for b in batches)]
            for runtime, of_runtime in rates.items()
        ],
    )
    return Chart(svg, title, "From the median latency of each batch size.", finding, data, HALF)


def _names(axes: "Axes", rates: Mapping[str, Mapping[int, float]]) -> None:
    """Names at the ends of the lines, moved apart where they would lie on each other."""
    height = HEIGHT - TOP - BOTTOM
    transform = axes.transData + axes.transAxes.inverted()
    ends = sorted(
        (float(transform.transform((1, rates[runtime][max(rates[runtime])]))[1]) * height, index, runtime)
        for index, runtime in enumerate(rates)
    )
    last = float("-inf")
    for place, index, runtime in ends:
        last = max(place, last + CLOSEST)
        axes.annotate(
            shortened(runtime, LONGEST), (1, last / height), (10, 0), "axes fraction", "offset points", va="center",
            fontsize=SMALL, color=INK,
        )  # fmt: skip
        axes.plot([1.012], [last / height], marker(index), transform=axes.transAxes, color=colour(index), markersize=6)


def _sentence(runtime: str, rates: Mapping[int, float]) -> str:
    batches: Sequence[int] = sorted(rates)
    first, last = batches[0], batches[-1]
    gain = rates[last] / rates[first]
    return (
        f"{runtime}: {rates[first]:.1f} images/s at batch {first}, {rates[last]:.1f} at {last} ({ratio(gain)} times)."
    )
