"""The section on attention and what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from attn_export.exporter.artifacts import AttentionBlock
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.charts.block_cost import block_cost
from attn_export.exporter.report.findings import attention as findings
from attn_export.exporter.report.findings.engines import kernels_sentence, kernels_table
from attn_export.exporter.report.findings.graphs import graph_for
from attn_export.exporter.report.findings.table import Table
from attn_export.exporter.report.page.section import Section


@dataclass(frozen=True)
class Engine:
    """An engine whose kernels are known."""

    sentence: str
    kernels: Table


def section(report: Report) -> Section:
    """The inventory with its cost, one chart for each measurement that tells blocks apart, kernels of engines."""
    title = "Attention, and what it costs"
    inventories, costs = findings.inventories_of(report), report.attention_cost
    engines = [engine for engine in report.engines if engine.cost.blocks]
    if not any(blocks for _, blocks in inventories) and not costs and not engines:
        found = (
            "No attention blocks were recognised." if inventories else "No graph was looked at for attention blocks."
        )
        return Section("attention", title, "Attention", absent=found)
    charts = [block_cost(f"cost-{index}", cost) for index, cost in enumerate(costs)]
    return Section(
        "attention",
        title,
        "Attention",
        {
            "sentences": [findings.cost_sentence(cost) for cost in costs] or _unmeasured(inventories),
            "costs": findings.cost_table(costs),
            "charts": [chart for chart in charts if chart],
            "inventories": [
                findings.inventory_table(names, blocks, findings.cost_for(report, names), graph_for(report, names))
                for names, blocks in inventories
                if blocks
            ],
            "engines": [Engine(kernels_sentence(e.path, e.cost), kernels_table(e.path, e.cost)) for e in engines],
        },
    )


def _unmeasured(inventories: Sequence[tuple[list[str], tuple[AttentionBlock, ...]]]) -> list[str]:
    return [f"{findings.blocks_words(blocks)}; the cost was not measured." for _, blocks in inventories[:1]]
