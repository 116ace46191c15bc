"""What a faster artifact costs: latency against error or size, with those of each network that none beats in both."""

from collections.abc import Callable, Sequence

from attn_export.exporter.records.sweep import Row
from attn_export.exporter.report.charts.axes import add_legend, far_apart, legend_height, set_ticks
from attn_export.exporter.report.charts.palette import PAPER, colour, marker
from attn_export.exporter.report.charts.svg import HALF, Chart, canvas, finished
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import milliseconds

HEIGHT = 300.0
Value = Callable[[Row], float | None]
Point = tuple[float, float, Row]  # milliseconds of an image, the other value, and whose


def tradeoff(name: str, title: str, rows: Sequence[Row], value: Value, label: str) -> Chart | None:
    """A marker for each cell, a colour for each network; None where fewer than two cells have both values.

    The rows are of one target; the smaller ``value`` is the better one.
    """
    points = [(latency, other, row) for row in rows if (latency := per_image(row)) and (other := value(row))]
    if len(points) < 2:
        return None
    models = list(dict.fromkeys(row.model for *_, row in points))
    best = [point for model in models for point in front([each for each in points if each[2].model == model])]
    with canvas(HALF, HEIGHT + legend_height(models, HALF)) as figure:
        axes = figure.subplots()
        axes.set_xscale("log" if far_apart([x for x, *_ in points]) else "linear")
        axes.set_yscale("log" if far_apart([y for _, y, _ in points]) else "linear")
        lines = []
        for index, model in enumerate(models):
            own = [point for point in points if point[2].model == model]
            line = [point for point in best if point[2].model == model]
            axes.plot([x for x, *_ in line], [y for _, y, _ in line], "--", color=colour(index), linewidth=1)
            lines += axes.plot(
                [x for x, *_ in own], [y for _, y, _ in own], marker(index), gid=f"model-{index}", color=colour(index),
                markeredgecolor=PAPER, markersize=8, markeredgewidth=0.6,
            )  # fmt: skip
        axes.set_xlabel("ms for an image")
        axes.set_ylabel(label)
        axes.margins(0.08)
        set_ticks(axes.xaxis)
        set_ticks(axes.yaxis)
        add_legend(figure, lines, models, HALF)
        data = table(
            title,
            ["cell", "ms for an image", label, "<"],
            [
                [_cell(row), milliseconds(x), f"{y:.2g}", "on the line" if (x, y, row) in best else ""]
                for x, y, row in points
            ],
        )
        hints = {
            f"model-{i}": [f"{_cell(row)}: {milliseconds(x)} ms, {y:.2g}" for x, y, row in points if row.model == model]
            for i, model in enumerate(models)
        }
        finding = f"No cell of its network is better in both than {', '.join(_cell(row) for *_, row in best)}."
        note = "Towards the lower left is better; no cell of the same network beats those on its line in both."
        return finished(figure, name, finding, data, note=note, hints=hints)


def per_image(row: Row) -> float | None:
    """Milliseconds for an image."""
    return row.latency_ms / row.batch if row.latency_ms is not None else None


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both values, the fastest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: point[:2]):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best


def _cell(row: Row) -> str:
    return f"{row.model} {row.precision} batch {row.batch} {row.runtime}"
