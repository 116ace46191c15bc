"""The spread of every gate on the sample image, in the order of computation."""

from collections.abc import Sequence

import numpy as np

from attn_export.exporter.report.charts.axes import add_legend, legend_height, set_ticks
from attn_export.exporter.report.charts.in_order import ACROSS, draw_markers, ordered_axes
from attn_export.exporter.report.charts.palette import colour
from attn_export.exporter.report.charts.svg import WIDE, Chart, canvas, finished
from attn_export.exporter.report.findings.gates import Gate
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import counted, listed

HEIGHT = 190.0
KINDS = ("channel", "spatial")
CONSTANT_WITHIN = 0.02
MOST_LISTED = 5


def gate_spread(name: str, gates: Sequence[Gate]) -> Chart | None:
    """For each gate the range, the middle 80 %, and the median of its values; None without gates.

    Args:
        name: unique among the charts of the page.
        gates: in the order of computation.
    """
    if not gates:
        return None
    shares = [np.percentile([*next(iter(gate.values.values()))], (0, 10, 50, 90, 100)) / 255 for gate in gates]
    by_kind = {kind: [i for i, gate in enumerate(gates) if gate.kind == kind] for kind in KINDS}
    words = [f"{kind} gates" for kind in KINDS]
    bar = max(2.0, min(12.0, ACROSS / len(gates) * 0.5))
    with canvas(WIDE, HEIGHT + legend_height(words, WIDE)) as figure:
        axes = ordered_axes(figure, [(gate.path, "gate") for gate in gates])
        axes.set(ylim=(-0.03, 1.03), ylabel="gate value")
        lines = []
        for index, chosen in enumerate(by_kind.values()):
            low, p10, median, p90, high = np.transpose([shares[i] for i in chosen]) if chosen else [[]] * 5
            axes.vlines(chosen, low, high, color=colour(index), linewidth=1.2)
            axes.vlines(chosen, p10, p90, color=colour(index), linewidth=bar, alpha=0.55)
            lines.append(draw_markers(axes, chosen, median, index, gid=f"kind-{index}"))
        set_ticks(axes.yaxis)
        add_legend(figure, lines, words, WIDE)
        data = table(
            "Spread of each gate",
            ["gate", "min", "p10", "median", "p90", "max"],
            [[gate.path, *(f"{value:.2f}" for value in share)] for gate, share in zip(gates, shares, strict=True)],
        )
        constant = [g.path for g, share in zip(gates, shares, strict=True) if share[4] - share[0] < CONSTANT_WITHIN]
        finding = f"{counted(len(gates), 'gate')}, {len(constant) or 'none'} of them nearly constant"
        finding += f": {listed(constant)}." if 0 < len(constant) <= MOST_LISTED else "."
        hints = {f"kind-{i}": [f"{gates[g].path}: {gates[g].words}" for g in by_kind[k]] for i, k in enumerate(KINDS)}
        note = "On the sample image, in PyTorch. Line: all values. Bar: p10 to p90. Marker: the median."
        return finished(figure, name, finding, data, note=note, hints=hints)
