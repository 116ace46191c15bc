"""Error ratios of all gates and outputs in each artifact, in the order of computation."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from attn_export.exporter.records.verdict import Comparison, Verdict
from attn_export.exporter.report.charts.axes import LETTER, LONGEST_NAME, add_legend, legend_height, set_ticks
from attn_export.exporter.report.charts.palette import BAD, LINE, PAPER, colour, marker
from attn_export.exporter.report.charts.svg import WIDE, Chart, canvas, finished
from attn_export.exporter.report.findings.errors import worst_of
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import counted, shortened, times

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 250.0
SMALLEST = 1e-4  # shares of the limit; smaller ones are drawn here
MOST_NAMED = 3
BESIDE = 0.22  # between the artifacts' markers of a tensor
ACROSS = WIDE - 70.0  # CSS pixels of the axes, at least
SHORTEST_NAME = 60.0  # CSS pixels for the name of a stage
MANY = 60  # tensors, from which on markers are smaller


def errors(name: str, verdicts: Mapping[str, Verdict]) -> Chart | None:
    """Error ratios as shares of their limits on a logarithmic axis, a series for each artifact; None without any."""
    by_tensor = {path: {c.tensor: c for c in verdict.comparisons} for path, verdict in verdicts.items()}
    roles = {c.tensor: c.role for verdict in verdicts.values() for c in verdict.comparisons}
    if not roles:
        return None
    shares = [c.severity for of in by_tensor.values() for c in of.values()]
    finite = [max(SMALLEST, share) for share in shares if math.isfinite(share)]
    order = {tensor: place for place, tensor in enumerate(roles)}
    hints = {}
    with canvas(WIDE, HEIGHT + legend_height(list(verdicts), WIDE)) as figure:
        axes = figure.subplots()
        _name_stages(axes, roles)
        axes.set(yscale="log", ylim=(min([*finite, 0.05]) / 1.5, max([*finite, 1.0]) * 2.5))
        axes.set_ylabel("error ratio ÷ limit")
        set_ticks(axes.yaxis)
        axes.axhline(1, color=BAD, linewidth=1.4, linestyle=(0, (5, 3)))
        axes.text(1, 1.08, "limit", transform=axes.get_yaxis_transform(), ha="right", va="bottom", color=BAD)
        lines = []
        for index, (path, of) in enumerate(by_tensor.items()):
            aside = (index - (len(by_tensor) - 1) / 2) * BESIDE
            xs, ys = [order[tensor] + aside for tensor in of], [_height(axes, c) for c in of.values()]
            lines += axes.plot(
                xs, ys, marker(index), gid=f"artifact-{index}", color=colour(index), markeredgecolor=PAPER,
                markersize=6 if len(roles) < MANY else 4.5, markeredgewidth=0.6,
            )  # fmt: skip
            hints[f"artifact-{index}"] = [f"{c.tensor} in {path}: {_words(c)}" for c in of.values()]
            _ring(axes, [(x, y, c) for x, y, c in zip(xs, ys, of.values(), strict=True) if not c.agrees], len(roles))
        add_legend(figure, lines, list(verdicts), WIDE)
        data = table(
            "Error ratio of every gate and output",
            ["tensor", *verdicts],
            [[t, *(_words(of[t]) if t in of else "" for of in by_tensor.values())] for t in roles],
        )
        finding = " ".join(_sentence(*pair) for pair in verdicts.items())
        note = "As a share of the limit, in the order of computation, outputs last. The axis is logarithmic."
        return finished(figure, name, finding, data, note=note, hints=hints)


def _name_stages(axes: "Axes", roles: Mapping[str, str]) -> None:
    """A position 0, 1, 2, ... for each tensor, and the names of the network's stages below; outputs are one stage."""
    axes.set_xlim(-0.8, len(roles) - 0.2)
    axes.grid(visible=False, axis="x")
    step = ACROSS / (len(roles) + 0.6)
    ticks, names, start, end = [], [], 0, 0.0
    for stage, members in groupby(roles, lambda t: "outputs" if roles[t] == "output" else t.partition(".")[0]):
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


def _words(comparison: Comparison) -> str:
    return f"{times(comparison.ratio)}, limit {comparison.limit:g}×"


def _height(axes: "Axes", comparison: Comparison) -> float:
    """Where an error is drawn; at the upper edge if it is not a number."""
    low, high = axes.get_ylim()
    return min(max(comparison.severity, low * 1.1), high / 1.15)


def _ring(axes: "Axes", bad: Sequence[tuple[float, float, Comparison]], tensors: int) -> None:
    """Rings around the tensors that disagree, and the names of the first."""
    xs, ys = [x for x, _, _ in bad], [y for _, y, _ in bad]
    axes.plot(xs, ys, "o", color="none", markersize=17, markeredgecolor=BAD, markeredgewidth=1.6)
    for x, y, c in bad[:MOST_NAMED]:
        left = x < tensors * 0.6
        axes.annotate(
            f"{shortened(c.tensor, LONGEST_NAME)}: {times(c.ratio)}", (x, y), (12 if left else -12, 0),
            textcoords="offset points", ha="left" if left else "right", va="center", color=BAD,
        )  # fmt: skip


def _sentence(path: str, verdict: Verdict) -> str:
    worst, beyond = worst_of(verdict.comparisons), sum(not c.agrees for c in verdict.comparisons)
    state = f"DISAGREES in {counted(beyond, 'tensor')}" if not verdict.agrees else "agrees"
    return f"{path} {state}." + (f" The worst error ratio is {_words(worst)}, of {worst.tensor}." if worst else "")
