"""The section on graphs before and after the cleanup."""

from dataclasses import dataclass

from attn_export.exporter.records.graphs import GraphOutlines
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.charts.block import block, width_for
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.strip import strip
from attn_export.exporter.report.findings import graphs as findings
from attn_export.exporter.report.findings.table import Table
from attn_export.exporter.report.findings.words import counted
from attn_export.exporter.report.page.section import Section


@dataclass(frozen=True)
class Block:
    """One block that stands for its kind."""

    kind: str
    place: str
    sentence: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Drawn:
    """One graph."""

    name: str
    sentences: tuple[str, ...]
    strip: Chart
    blocks: tuple[Block, ...]
    operators: Table


def section(report: Report) -> Section:
    """Each graph as a strip of its nodes, and a block of each kind as boxes; before the cleanup too, if known."""
    found = findings.graphs_of(report)
    title = "The graph, before and after" if any(graph.before for graph in found) else "The graph"
    if not found:
        return Section("graph", title, "Graph", absent="The record holds no outline of the graph.")
    return Section(
        "graph", title, "Graph", {"graphs": [_drawn(graph, f"graph-{i}", i > 0) for i, graph in enumerate(found)]}
    )


def _drawn(graph: GraphOutlines, name: str, folded: bool) -> Drawn:
    """Blocks of the first graph only: other precisions differ by casts."""
    kinds = findings.kinds_of(graph)
    blocks = [] if folded else findings.representatives(graph)
    return Drawn(
        graph.artifact,
        tuple(findings.graph_sentences(graph)),
        strip(f"{name}-strip", graph),
        tuple(_block(f"{name}-block-{i}", *found, kinds.index(found[0])) for i, found in enumerate(blocks)),
        findings.operator_table(graph),
    )


def _block(name: str, kind: str, place: str, before: findings.Part | None, after: findings.Part, colour: int) -> Block:
    states = [("after", "Its nodes", after)]
    if before is not None:
        states = [("before", "As captured", before), ("after", "After the cleanup", after)]
    width = max(width_for(part) for _, _, part in states)
    drawn = [block(f"{name}-{state}", part, title, colour, width) for state, title, part in states]
    nodes = counted(len(after.operators), "node")
    told = nodes if before is None else f"{counted(len(before.operators), 'node')} before, {len(after.operators)} after"
    return Block(kind, place, told, tuple(drawn))
