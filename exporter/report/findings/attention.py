"""Attention blocks and the cost of attention."""

from collections import Counter
from collections.abc import Sequence

from attn_export.exporter.artifacts import AttentionBlock
from attn_export.exporter.records.attention import AttentionCost, TimedBlock
from attn_export.exporter.records.graphs import GraphOutlines
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings.graphs import nodes_of_blocks
from attn_export.exporter.report.findings.table import QUIET, Cell, Table, table
from attn_export.exporter.report.findings.words import (
    decimals,
    large,
    listed,
    milliseconds,
    percent,
    speed_words,
)


def inventories_of(report: Report) -> list[tuple[list[str], tuple[AttentionBlock, ...]]]:
    """The different inventories: the names of the ONNX files with each, and its blocks."""
    found: dict[tuple[object, ...], tuple[list[str], tuple[AttentionBlock, ...]]] = {}
    for file in report.onnx_files:
        facts = tuple((b.kind, b.module_path, b.channels, len(b.nodes)) for b in file.attention)
        found.setdefault(facts, ([], file.attention))[0].append(file.path)
    return list(found.values())


def inventory_table(
    names: Sequence[str],
    blocks: Sequence[AttentionBlock],
    cost: AttentionCost | None = None,
    graph: GraphOutlines | None = None,
) -> Table:
    """One row for each block, with its cost where that was measured.

    Cost and graph are those of one of the named files; the nodes before are counted as in the drawings.
    """
    before = nodes_of_blocks(graph.before) if graph and graph.before else {}
    by_path = {entry.module_path: entry for entry in cost.blocks} if cost else {}
    places = decimals([entry.ms for entry in by_path.values()])

    def row(block: AttentionBlock) -> list[str | Cell]:
        entry = by_path.get(block.place)
        facts = ("" if fact is None else str(fact) for fact in (block.channels, block.reduction, block.kernel))
        earlier, now = before.get(block.place, block.nodes_before), len(block.nodes)
        nodes = str(now) if earlier == now else f"{earlier} → {now}"
        figures = ("", "", "") if entry is None else (macs_words(entry), *_time_words(entry, places))
        return [block.place, Cell(block.kind, QUIET), *facts, nodes, *figures]

    heads = "module,<kind,channels,reduction,kernel,nodes,MACs,ms,share of kernel time".split(",")
    title = f"Attention blocks of {listed(names)}"
    if cost and len(names) > 1:
        title += f"; MACs and times are those of {cost.artifact}"
    return table(title, heads, [row(block) for block in blocks])


def macs_words(block: TimedBlock) -> str:
    """``49.6 k``; empty where unknown."""
    return "" if block.macs is None else large(block.macs)


def _time_words(block: TimedBlock, places: int) -> tuple[str, str]:
    return milliseconds(block.ms, places), percent(block.share)


def kinds_table(cost: AttentionCost) -> Table:
    """One row for each kind of block: its share of the MACs and of the kernel time."""
    rows = []
    for kind in dict.fromkeys(block.kind for block in cost.blocks):
        blocks = [block for block in cost.blocks if block.kind == kind]
        macs = [block.macs for block in blocks if block.macs is not None]
        share = percent(sum(macs) / cost.macs) if cost.macs and macs else ""
        time = percent(sum(block.share for block in blocks)), milliseconds(sum(block.ms for block in blocks))
        rows.append([kind, str(len(blocks)), share, *time, str(sum(block.kernels for block in blocks))])
    heads = ["kind", "blocks", "share of MACs", "share of kernel time", "ms", "kernels"]
    return table(f"Attention in {cost.artifact}", heads, rows)


def blocks_table(cost: AttentionCost, most: int) -> Table:
    """The most expensive blocks."""
    first = sorted(cost.blocks, key=lambda block: -block.ms)[:most]
    places = decimals(block.ms for block in first)
    return table(
        f"Most expensive blocks of {cost.artifact}",
        ["module", "<kind", "channels", "MACs", "ms", "share of kernel time", "kernels"],
        [
            [
                block.module_path,
                Cell(block.kind, QUIET),
                "" if block.channels is None else str(block.channels),
                macs_words(block),
                *_time_words(block, places),
                str(block.kernels),
            ]
            for block in first
        ],
    )


def cost_for(report: Report, names: Sequence[str]) -> AttentionCost | None:
    """The first cost of any of these files with a profile."""
    return next((cost for cost in report.attention_cost if cost.artifact in names and cost.blocks), None)


def blocks_words(blocks: Sequence[AttentionBlock] | Sequence[TimedBlock]) -> str:
    """``16 SE blocks``."""
    kinds = Counter(block.kind for block in blocks)
    parts = [f"{count} {kind}" for kind, count in kinds.items()]
    return f"{listed(parts)} {'block' if len(blocks) == 1 else 'blocks'}" if parts else "no attention blocks"


def time_share(cost: AttentionCost) -> str:
    """``8.0 % of the kernel time``; empty without a profile."""
    if not cost.profiled_ms or cost.attention_ms is None:
        return ""
    return f"{percent(cost.attention_ms / cost.profiled_ms)} of the kernel time"


def cost_sentence(cost: AttentionCost) -> str:
    """``model.onnx in onnxruntime, batch 1``, and `cost_words`."""
    missed = f" {cost.missed[0].upper()}{cost.missed[1:]}." if cost.missed else ""
    return f"{cost.artifact} in {cost.runtime}, batch {cost.batch}: {cost_words(cost)}.{missed}"


def cost_words(cost: AttentionCost) -> str:
    """``16 SE blocks: 0.4 % of the MACs, 8 % of the kernel time``, and the comparison with the ablated model."""
    shares = [time_share(cost)]
    if cost.macs and cost.attention_macs is not None:
        shares.insert(0, f"{percent(cost.attention_macs / cost.macs)} of the MACs")
    known = ", ".join(filter(None, shares))
    blocks = blocks_words(cost.blocks) if cost.blocks else "attention"
    parts = [f"{blocks}: {known}" if known else "", _against_ablated(cost)]
    return "; ".join(filter(None, parts)) or "not measured"


def _against_ablated(cost: AttentionCost) -> str:
    if cost.with_ms is None or cost.without_ms is None or cost.ratio is None:
        return "" if cost.with_ms is None else f"{milliseconds(cost.with_ms)} ms with attention"
    places = decimals([cost.with_ms, cost.without_ms])
    times = f"{milliseconds(cost.with_ms, places)} ms with attention, {milliseconds(cost.without_ms, places)} without"
    if cost.verdict == "can't tell":
        return f"{times}: the two can't be told apart"
    words = speed_words(cost.ratio, cost.ratio_interval or (cost.ratio,) * 2, "without", significant=True)
    return f"{times}: it {words}"


def summary(report: Report) -> tuple[str, str] | None:
    """The largest figure and a sentence for the head of the page; None without attention."""
    for cost in report.attention_cost:
        if share := time_share(cost):
            return share.replace("the ", ""), f"{cost_words(cost)}.".replace(f", {share}", "")
        if cost.ratio is not None:
            return f"{cost.ratio:.3f}× the latency", f"{cost_words(cost)}."
    for names, blocks in inventories_of(report):
        if blocks:
            return blocks_words(blocks), f"{listed(names)}; the cost was not measured."
    return None
