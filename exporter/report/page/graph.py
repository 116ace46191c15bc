"""The section on graphs before and after the cleanup."""

from collections import Counter
from collections.abc import Mapping

from attn_export.exporter.records.graphs import GraphOutlines
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings import graphs as findings
from attn_export.exporter.report.findings.table import Table, table
from attn_export.exporter.report.page.section import Section


def section(report: Report) -> Section:
    """Counts of each graph's nodes: by kind of block, by operator, and in one block of each kind."""
    graphs = findings.graphs_of(report)
    title = "The graph, before and after" if any(graph.before for graph in graphs) else "The graph"
    if not graphs:
        return Section("graph", title, "Graph", absent="The report contains no outline of the graph.")
    # Blocks of the first graph only: those of other precisions differ by casts.
    shown = [_graph(graph, blocks=index == 0) for index, graph in enumerate(graphs)]
    return Section("graph", title, "Graph", {"graphs": shown})


def _graph(graph: GraphOutlines, *, blocks: bool) -> Mapping[str, object]:
    return {
        "name": graph.artifact,
        "sentences": findings.graph_sentences(graph),
        "kinds": _kind_table(graph),
        "blocks": [_block_table(*block) for block in findings.representatives(graph)] if blocks else [],
        "operators": findings.operator_table(graph),
    }


def _kind_table(graph: GraphOutlines) -> Table:
    """The number of nodes in attention blocks of each kind, and outside of them."""
    states = [("before", graph.before), ("after", graph.after)] if graph.before else [("nodes", graph.after)]
    counts = [findings.nodes_by_kind(outline) for _, outline in states if outline]
    kinds = [*findings.kinds_of(graph), ""]
    rows = [[kind or "outside attention", *(str(count[kind]) for count in counts)] for kind in kinds]
    return table("Nodes by attention block", ["block", *(word for word, _ in states)], rows)


def _block_table(kind: str, place: str, before: list[str] | None, after: list[str]) -> Table:
    """The operators of one block in the order of computation, those that the cleanup removed last."""
    later, earlier = Counter(after), Counter(before or ())
    names = list(dict.fromkeys([*later, *earlier]))
    rows = [[name, *([str(earlier[name])] if before else []), str(later[name])] for name in names]
    total = [str(sum(count.values())) for count in ([earlier, later] if before else [later])]
    heads = ["before", "after"] if before else ["nodes"]
    return table(f"Operators of a {kind} block, {place}", ["operator", *heads], [*rows, ["all", *total]])
