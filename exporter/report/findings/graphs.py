"""Graphs before and after the cleanup."""

from collections import Counter
from collections.abc import Sequence

from attn_export.exporter.records.cleanup import Cleaned
from attn_export.exporter.records.graphs import GraphOutlines, OutlineRecord
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings.table import Table, table
from attn_export.exporter.report.findings.words import counted, error, listed

NO_BLOCKS = "no attention blocks were recognised"


def graphs_of(report: Report) -> list[GraphOutlines]:
    """Outlines of the artifacts' graphs, without repetition."""
    found: list[GraphOutlines] = []
    for graph in report.graphs:
        if not any((graph.after, graph.before) == (other.after, other.before) for other in found):
            found.append(graph)
    return found


def nodes_of_blocks(outline: OutlineRecord) -> dict[str, int]:
    """How many nodes each block has, by its module path."""
    counts = Counter(block for block in outline.blocks if block is not None)
    return {entry.module_path: counts[index] for index, entry in enumerate(outline.inventory)}


def graph_for(report: Report, names: Sequence[str]) -> GraphOutlines | None:
    """The outlines of the first of these artifacts that has any."""
    return next((graph for graph in report.graphs if graph.artifact in names), None)


def graph_sentence(graph: GraphOutlines) -> str:
    """``1188 nodes as captured, 378 after the cleanup; 16 CBAM blocks.``."""
    after, before = graph.after, graph.before
    kinds = [f"{count} {kind}" for kind, count in Counter(entry.kind for entry in after.inventory).items()]
    blocks = f"{listed(kinds)} {'block' if len(after.inventory) == 1 else 'blocks'}" if kinds else NO_BLOCKS
    if before is None:
        return f"{counted(len(after.operators), 'node')}; {blocks}."
    return f"{counted(len(before.operators), 'node')} as captured, {len(after.operators)} after the cleanup; {blocks}."


def operator_table(graph: GraphOutlines) -> Table:
    """How many nodes of each operator, before and after."""
    counts = [Counter(outline.operators) for outline in (graph.before, graph.after) if outline]
    names = sorted({*counts[0], *counts[-1]}, key=lambda name: (-max(count[name] for count in counts), name))
    return _count_table("Nodes by operator", "operator", names, counts)


def kind_table(graph: GraphOutlines) -> Table:
    """The number of nodes in attention blocks of each kind, and outside of them."""
    outlines = [outline for outline in (graph.before, graph.after) if outline]
    kinds = [[entry.kind for entry in outline.inventory] for outline in outlines]
    counts = [
        Counter("" if block is None else of[block] for block in outline.blocks)
        for outline, of in zip(outlines, kinds, strict=True)
    ]
    names = dict.fromkeys(kind for of in reversed(kinds) for kind in of)  # those of the cleaned graph first
    return _count_table("Nodes by attention block", "block", [*names, ""], counts)


def block_tables(graph: GraphOutlines) -> list[Table]:
    """The operators of the first block of each kind, those that the cleanup removed last."""
    return [
        _count_table(
            f"Operators of a {kind} block, {place}",
            "operator",
            list(dict.fromkeys([*after, *(before or ())])),
            [Counter(names) for names in (before, after) if names],
        )
        for kind, place, before, after in representatives(graph)
    ]


def _count_table(caption: str, head: str, names: Sequence[str], counts: Sequence[Counter[str]]) -> Table:
    """One row for each name with its counts, before and after or only now, and their sums."""
    rows = [[name or "outside attention", *(str(count[name]) for count in counts)] for name in names]
    rows.append(["all", *(str(sum(count.values())) for count in counts)])
    return table(caption, [head, *(("before", "after") if len(counts) > 1 else ("nodes",))], rows)


def representatives(graph: GraphOutlines) -> list[tuple[str, str, list[str] | None, list[str]]]:
    """The first block of each kind: kind, module path, its operators before (None where unknown) and after."""
    after, before = graph.after, graph.before
    found = []
    for kind in dict.fromkeys(entry.kind for entry in after.inventory):
        index = next(i for i, entry in enumerate(after.inventory) if entry.kind == kind)
        place, earlier = after.inventory[index].module_path, None
        if before is not None:
            inside = [i for i, entry in enumerate(before.inventory) if _within(entry.module_path, place)]
            earlier = operators_of(before, inside) or None
        if later := operators_of(after, [index]):
            found.append((kind, place, earlier, later))
    return found


def _within(path: str, place: str) -> bool:
    """Whether a block is this one or a part of it."""
    return path == place or path.startswith(f"{place}.")


def operators_of(outline: OutlineRecord, blocks: Sequence[int]) -> list[str]:
    """The operators of these blocks, in topological order."""
    return [operator for operator, block in zip(outline.operators, outline.blocks, strict=True) if block in blocks]


def rewrite_tables(cleaned: Cleaned) -> list[Table]:
    """Applied, skipped and reverted rewrites."""
    applied = [
        [rule, str(count), error(max(rewrite.error for rewrite in cleaned.applied if rewrite.rule == rule))]
        for rule, count in Counter(rewrite.rule for rewrite in cleaned.applied).items()
    ]
    reasons = Counter((skipped.rule, skipped.reason) for skipped in cleaned.skipped)
    skipped = [
        [rule, str(count), next(s.place for s in cleaned.skipped if (s.rule, s.reason) == (rule, reason)), reason]
        for (rule, reason), count in reasons.items()
    ]
    reverted = [[r.rule, error(r.error), error(r.tolerance), r.place] for r in cleaned.reverted]
    tables = [
        table("Applied rewrites", ["rule", "times", "largest difference, float64"], applied),
        table("Skipped rewrites", ["rule", "times", "<first at", "<because"], skipped),
        table("Reverted rewrites: they would have changed the result", ["rule", "error", "limit", "<at"], reverted),
    ]
    return [made for made in tables if made.rows]
