"""The section on attention and what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attn_export.exporter.report.charts.block_cost import block_cost
from attn_export.exporter.report.findings import attention as findings
from attn_export.exporter.report.findings.graphs import graph_for
from attn_export.exporter.report.findings.table import Table
from attn_export.exporter.report.page.section import Section


@dataclass(frozen=True)
class Engine:
    """An engine whose kernels are known."""

    sentence: str
    kernels: Table


def section(record: dict[str, Any]) -> Section:
    """The inventory with its cost, one chart for each measurement that tells blocks apart, kernels of engines."""
    title = "Attention, and what it costs"
    inventories, costs = findings.inventories_of(record), findings.costs_of(record)
    engines = findings.engines_of(record)
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
            "costs": findings.cost_table(record),
            "charts": [chart for chart in charts if chart],
            "inventories": [
                findings.inventory_table(names, blocks, findings.cost_for(record, names), graph_for(record, names))
                for names, blocks in inventories
                if blocks
            ],
            "engines": [Engine(findings.engine_sentence(e), findings.engine_table(e)) for e in engines],
        },
    )


def _unmeasured(inventories: Sequence[tuple[Any, Any]]) -> list[str]:
    return [f"{findings.blocks_words(blocks)}; what they cost was not measured." for _, blocks in inventories[:1]]
