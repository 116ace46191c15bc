"""The share of each attention block in the kernel time and in the MACs of the network."""

from dataclasses import replace

from attn_export.exporter.records.attention import AttentionCost
from attn_export.exporter.report.charts.axes import add_legend, legend_height, name_rows, set_ticks, write_beside
from attn_export.exporter.report.charts.palette import SOFT, colour
from attn_export.exporter.report.charts.svg import WIDE, Chart, canvas, finished
from attn_export.exporter.report.findings.attention import blocks_table, cost_sentence
from attn_export.exporter.report.findings.words import percent, shown

ROW, DENSE_ROW, REST = 28.0, 18.0, 46.0  # CSS pixels of a row, of one of many, and of everything else
DENSE = 12  # rows
LONGEST_NAME = 44
WORDS = ("share of kernel time", "share of MACs")


def block_cost(name: str, cost: AttentionCost) -> Chart | None:
    """Two bars for each block; None if the measurement did not tell blocks apart."""
    blocks = [block for block in cost.blocks if block.share is not None]
    if not blocks:
        return None
    macs = [block.macs / cost.macs if cost.macs and block.macs is not None else None for block in blocks]
    row = ROW if len(blocks) < DENSE else DENSE_ROW
    with canvas(WIDE, row * len(blocks) + REST + legend_height(WORDS, WIDE)) as figure:
        axes, rows = figure.subplots(), range(len(blocks))
        times = axes.barh([y - 0.12 for y in rows], [100 * b.share for b in blocks], height=0.42, color=colour(0))
        work = axes.barh([y + 0.22 for y in rows], [100 * (share or 0) for share in macs], height=0.2, color=colour(1))
        for y, (block, share) in enumerate(zip(blocks, macs, strict=True)):
            known = "unknown" if share is None else percent(share)
            write_beside(axes, y, f"{percent(block.share)} · {known}", SOFT)
        name_rows(axes, [block.module_path for block in blocks], LONGEST_NAME)
        axes.set_xlabel("share of the whole network, %")
        set_ticks(axes.xaxis)
        add_legend(figure, [times[0], work[0]], WORDS, WIDE)
        note = f"At batch {cost.batch}, in {cost.runtime}."
        if cost.unattributed_ms and cost.profiled_ms:
            rest = percent(cost.unattributed_ms / cost.profiled_ms)
            note += f" Another {rest} of the kernel time is in kernels that are shared with other layers or unknown."
        title = f"Attention's share of kernel time and MACs, {cost.artifact}"
        data = replace(blocks_table(cost, len(blocks)), caption=shown(title))
        return finished(figure, name, cost_sentence(cost), data, note=note)
