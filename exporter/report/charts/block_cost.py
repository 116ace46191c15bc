"""What each attention block takes of the kernels' time, beside what it takes of the multiplications."""

from typing import TYPE_CHECKING

from attn_export.exporter.records.attention import AttentionCost, TimedBlock
from attn_export.exporter.report.charts.axes import LETTER, SMALL, WIDE, Scale, draw_ticks
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.palette import INK, SOFT, colour
from attn_export.exporter.report.charts.svg import canvas, inline, panel
from attn_export.exporter.report.findings.attention import cost_sentence
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import milliseconds, percent, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW, DENSE_ROW = 26.0, 17.0
DENSE = 20  # rows from which on they are lower
TOP, BOTTOM = 26.0, 26.0
LONGEST_NAME = 44
FIGURES = 96.0


def block_cost(name: str, cost: AttentionCost) -> Chart | None:
    """Two bars for each block, shares of the whole network; None where blocks were not told apart.

    Args:
        name: of the chart, the same for no other.
        cost: one entry of the record's ``attention_cost``.
    """
    blocks = [block for block in cost.blocks if block.share is not None]
    if not blocks:
        return None
    whole = cost.macs
    macs = [block.macs / whole if whole and block.macs is not None else None for block in blocks]
    row = ROW if len(blocks) < DENSE else DENSE_ROW
    left = max(len(shortened(block.module_path, LONGEST_NAME)) for block in blocks) * LETTER + 14
    # A share is a share of the whole: the axis begins at nothing.
    shares = [*(share for share in macs if share is not None), *(block.share for block in blocks)]
    scale = Scale(0.0, max(shares) * 105 or 1.0)
    with canvas(WIDE, TOP + row * len(blocks) + BOTTOM) as figure:
        axes = panel(figure, left, TOP, WIDE - left - FIGURES, row * len(blocks))
        scale.set_on(axes)
        axes.set_ylim(len(blocks) * row, 0)
        draw_ticks(axes, scale, "%")
        side = axes.get_yaxis_transform()
        hints = {}
        for index, (block, share) in enumerate(zip(blocks, macs, strict=True)):
            middle = (index + 0.5) * row
            gid = f"row-{index}"
            spent = f"{percent(block.share)} of the kernels' time"
            hints[gid] = f"{block.module_path}: {spent}, {_told(share)} of the MACs"
            axes.plot(
                [0, block.share * 100], [middle - row * 0.14] * 2, color=colour(0), linewidth=row * 0.42,
                solid_capstyle="butt", gid=gid,
            )  # fmt: skip
            axes.plot(
                [0, (share or 0) * 100], [middle + row * 0.22] * 2, color=colour(1), linewidth=row * 0.2,
                solid_capstyle="butt",
            )  # fmt: skip
            text = shortened(block.module_path, LONGEST_NAME)
            axes.annotate(
                text,
                (0, middle),
                (-12, 0),
                side,
                "offset points",
                ha="right",
                va="center_baseline",
                color=INK,
                fontsize=SMALL,
            )
            words = f"{percent(block.share)} · {_told(share)}"
            axes.annotate(
                words, (1, middle), (10, 0), side, "offset points", va="center_baseline", fontsize=SMALL, color=SOFT
            )
        _legend(axes, TOP, WIDE - left - FIGURES, row * len(blocks))
        title = f"Share of the kernels' time and of the MACs, {cost.artifact} in {cost.runtime}"
        finding = _finding(cost, blocks)
        svg = inline(figure, name, title, finding, hints)
    data = table(
        title,
        ["module", "<kind", "ms", "of kernel time", "of the MACs", "kernels"],
        [
            [
                b.module_path, b.kind, "" if b.ms is None else milliseconds(b.ms), percent(b.share),
                _told(share), "" if b.kernels is None else str(b.kernels),
            ]
            for b, share in zip(blocks, macs, strict=True)
        ],
    )  # fmt: skip
    return Chart(svg, title, _note(cost), finding, data, WIDE)


def _told(share: float | None) -> str:
    return "not known" if share is None else percent(share)


def _note(cost: AttentionCost) -> str:
    """What the shares are of, and what isn't in them."""
    said = f"Of the whole network, batch {cost.batch}."
    if cost.unattributed_ms and cost.profiled_ms:
        left = percent(cost.unattributed_ms / cost.profiled_ms)
        said += f" Another {left} of the kernels' time is in kernels that compute something else too, or are not known."
    return said


def _legend(axes: "Axes", top: float, width: float, height: float) -> None:
    at = axes.transAxes
    line = 1 + (top - 12) / height
    for place, tone, thick, words in ((0.0, colour(0), 9.0, "of kernel time"), (110.0, colour(1), 4.5, "of the MACs")):
        axes.plot(
            [place / width, (place + 18) / width],
            [line, line],
            transform=at,
            color=tone,
            linewidth=thick,
            solid_capstyle="butt",
        )
        axes.annotate(
            words, ((place + 25) / width, line), xycoords=at, va="center_baseline", fontsize=SMALL, color=SOFT
        )


def _finding(cost: AttentionCost, blocks: list[TimedBlock]) -> str:
    first = max(blocks, key=lambda block: float(block.share))
    return f"{cost_sentence(cost)} {first.module_path} takes most: {percent(first.share)}."
