"""The section on attention and its cost."""

from collections.abc import Sequence

from attn_export.exporter.artifacts import AttentionBlock
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.charts.block_cost import block_cost
from attn_export.exporter.report.findings import attention as findings
from attn_export.exporter.report.findings.engines import kernels_sentence, kernels_table
from attn_export.exporter.report.findings.graphs import graph_for
from attn_export.exporter.report.page.section import Section


def section(report: Report) -> Section:
    """The inventory with its cost, a chart for each measurement that tells blocks apart, and kernels of engines."""
    title = "Attention and its cost"
    inventories, costs = findings.inventories_of(report), report.attention_cost
    engines = [engine for engine in report.engines if engine.cost.blocks]
    if not any(blocks for _, blocks in inventories) and not costs and not engines:
        reason = (
            "No attention blocks were recognised." if inventories else "No graph was searched for attention blocks."
        )
        return Section("attention", title, "Attention", absent=reason)
    charts = [block_cost(f"cost-{index}", cost) for index, cost in enumerate(costs)]
    content = {
        "sentences": [findings.cost_sentence(cost) for cost in costs] or _unmeasured(inventories),
        "costs": findings.cost_table(costs),
        "charts": [chart for chart in charts if chart],
        "inventories": [
            findings.inventory_table(names, blocks, findings.cost_for(report, names), graph_for(report, names))
            for names, blocks in inventories
            if blocks
        ],
        "engines": [(kernels_sentence(e.path, e.cost), kernels_table(e.path, e.cost)) for e in engines],
    }
    return Section("attention", title, "Attention", content)


def _unmeasured(inventories: Sequence[tuple[list[str], tuple[AttentionBlock, ...]]]) -> list[str]:
    return [f"{findings.blocks_words(blocks)}; the cost was not measured." for _, blocks in inventories[:1]]
