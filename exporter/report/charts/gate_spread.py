"""How open every gate is on the sample image, in the order of computation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from attn_export.exporter.report.charts.axes import WIDE, Scale
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.in_order import ACROSS, height_with, panel_in_order
from attn_export.exporter.report.charts.palette import PAPER, colour
from attn_export.exporter.report.charts.svg import canvas, inline
from attn_export.exporter.report.findings.gates import Gate
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import listed

Shares = np.ndarray[Any, np.dtype[np.float64]]

HEIGHT = 165.0
KINDS = ("channel", "spatial")
MARKS = "os"
CLOSED, OPEN = 0.1, 0.9


def gate_spread(name: str, gates: Sequence[Gate]) -> Chart | None:
    """For each gate the range of its values, where most of them lie, and the middle one; None without gates.

    Args:
        name: of the chart, the same for no other.
        gates: in the order of computation.
    """
    if not gates:
        return None
    values = [np.frombuffer(next(iter(gate.values.values())), np.uint8) / 255 for gate in gates]
    shares = [np.percentile(each, (0, 10, 50, 90, 100)) for each in values]
    bar = max(2.0, min(12.0, ACROSS / len(gates) * 0.5))
    hints = {}
    kinds = [kind for kind in KINDS if any(gate.kind == kind for gate in gates)]
    words = [f"{kind} gates" for kind in kinds]
    order = [(gate.path, "gate") for gate in gates]
    with canvas(WIDE, height_with(words, HEIGHT)) as figure:
        axes = panel_in_order(figure, order, Scale(0.0, 1.0), words, MARKS)
        for index, (gate, share) in enumerate(zip(gates, shares, strict=True)):
            kind = kinds.index(gate.kind) if gate.kind in kinds else 0
            gid = f"gate-{index}"
            hints[gid] = f"{gate.path}: {gate.words}"
            axes.plot([index, index], [share[0], share[4]], color=colour(kind), linewidth=1.2)
            axes.plot(
                [index, index], [share[1], share[3]], color=colour(kind), linewidth=bar, solid_capstyle="butt",
                alpha=0.55, gid=gid,
            )  # fmt: skip
            axes.plot(
                [index], [share[2]], MARKS[kind], color=colour(kind), markersize=6, markeredgecolor=PAPER,
                markeredgewidth=0.8,
            )  # fmt: skip
        title = "How open each gate is"
        finding = _finding(gates, shares)
        svg = inline(figure, name, title, finding, hints)
    data = table(
        title,
        ["gate", "min", "p10", "median", "p90", "max"],
        [[gate.path, *(f"{value:.2f}" for value in share)] for gate, share in zip(gates, shares, strict=True)],
    )
    note = "On the sample image, in PyTorch. Line: all values; bar: the middle eight tenths; mark: the median."
    return Chart(svg, title, note, finding, data, WIDE)


def _finding(gates: Sequence[Gate], shares: Sequence[Shares]) -> str:
    said = []
    for kind in KINDS:
        chosen = [(gate, share) for gate, share in zip(gates, shares, strict=True) if gate.kind == kind]
        if not chosen:
            continue
        middles = [float(share[2]) for _, share in chosen]
        said.append(f"{len(chosen)} {kind} gates with medians from {min(middles):.2f} to {max(middles):.2f}.")
        idle = [gate.path for gate, share in chosen if share[4] - share[0] < 0.02]
        if idle:
            few = listed(idle) if len(idle) < 6 else f"{len(idle)} of them"
            said.append(f"The same everywhere, to the hundredth: {few}.")
    return " ".join(said)
