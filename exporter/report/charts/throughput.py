"""Throughput over the batch size."""

from collections.abc import Mapping

from attn_export.exporter.report.charts.axes import add_legend, far_apart, legend_height, set_ticks
from attn_export.exporter.report.charts.palette import colour, marker
from attn_export.exporter.report.charts.svg import HALF, Chart, canvas, finished
from attn_export.exporter.report.findings.table import table

HEIGHT = 240.0


def throughput(name: str, rates: Mapping[str, Mapping[int, float]]) -> Chart | None:
    """A line for each runtime; None with a single batch size.

    Args:
        name: unique among the charts of the page.
        rates: images per second by runtime and batch size.
    """
    batches = sorted({batch for by_batch in rates.values() for batch in by_batch})
    if len(batches) < 2:
        return None
    with canvas(HALF, HEIGHT + legend_height(list(rates), HALF)) as figure:
        axes = figure.subplots()
        lines = [
            axes.plot(*zip(*sorted(by_batch.items()), strict=True), marker=marker(i), color=colour(i), linewidth=1.6)[0]
            for i, by_batch in enumerate(rates.values())
        ]
        add_legend(figure, lines, list(rates), HALF)
        axes.set_xscale("log")
        axes.set_yscale("log" if far_apart([rate for by in rates.values() for rate in by.values()]) else "linear")
        axes.set(xlabel="batch size", ylabel="images/s")
        set_ticks(axes.xaxis)
        set_ticks(axes.yaxis)
        axes.set_xticks(batches)
        data = table(
            "Images per second over the batch size",
            ["runtime", *(f"batch {batch}" for batch in batches)],
            [
                [runtime, *(f"{by_batch[b]:.1f}" if b in by_batch else "" for b in batches)]
                for runtime, by_batch in rates.items()
            ],
        )
        finding = " ".join(_sentence(runtime, by_batch) for runtime, by_batch in rates.items())
        return finished(figure, name, finding, data, note="From the median latency of each batch size.")


def _sentence(runtime: str, rates: Mapping[int, float]) -> str:
    first, last = min(rates), max(rates)
    gain = rates[last] / rates[first]
    return f"{runtime}: {rates[first]:.1f} images/s at batch {first}, {rates[last]:.1f} at batch {last} ({gain:.2f}×)."
