"""Graphs before and after the cleanup."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from attn_export.exporter.records.cleanup import Cleaned
from attn_export.exporter.records.graphs import GraphOutlines, OutlineRecord
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.findings.table import Table, table
from attn_export.exporter.report.findings.words import counted, error, listed

CONSTANT = "Constant"


@dataclass(frozen=True)
class Part:
    """The nodes of one attention block, as a graph of its own.

    Attributes:
        operators: in topological order.
        inputs: for each operator the indices of its producers; negative numbers stand for producers outside.
        sources: the operators outside: ``sources[-1 - number]``.
    """

    operators: tuple[str, ...]
    inputs: tuple[tuple[int, ...], ...]
    sources: tuple[str, ...]


def graphs_of(report: Report) -> list[GraphOutlines]:
    """Outlines of the artifacts' graphs, without repetition."""
    found: list[GraphOutlines] = []
    for graph in report.graphs:
        if not any((graph.after, graph.before) == (other.after, other.before) for other in found):
            found.append(graph)
    return found


def kinds_of(graph: GraphOutlines) -> list[str]:
    """The kinds of attention in the graph, in their order; those of the cleaned graph first."""
    inventories = [outline.inventory for outline in (graph.after, graph.before) if outline]
    return list(dict.fromkeys(entry.kind for inventory in inventories for entry in inventory))


def nodes_by_kind(outline: OutlineRecord) -> Counter[str]:
    """How many nodes belong to blocks of each kind; the key of all other nodes is empty."""
    return Counter("" if block is None else outline.inventory[block].kind for block in outline.blocks)


def nodes_of_blocks(outline: OutlineRecord) -> dict[str, int]:
    """How many nodes each block has, by its module path."""
    counts = Counter(block for block in outline.blocks if block is not None)
    return {entry.module_path: counts[index] for index, entry in enumerate(outline.inventory)}


def graph_for(report: Report, names: Sequence[str]) -> GraphOutlines | None:
    """The outlines of the first of these artifacts that has any."""
    return next((graph for graph in report.graphs if graph.artifact in names), None)


def graph_sentences(graph: GraphOutlines) -> list[str]:
    """The effect of the cleanup, in numbers."""
    after, before = graph.after, graph.before
    nodes, blocks = len(after.operators), len(after.inventory)
    kinds = Counter(entry.kind for entry in after.inventory)
    attention = sum(block is not None for block in after.blocks)
    of = listed([f"{count} {kind}" for kind, count in kinds.items()])
    inventory = f"{of} {'block' if blocks == 1 else 'blocks'}" if blocks else "no attention blocks were recognised"
    if before is None:
        share = f" with {counted(attention, 'node')}" if blocks else ""
        return [f"{counted(nodes, 'node')}; {inventory}{share}."]
    captured = counted(len(before.operators), "node")
    sentences = [f"{captured} as captured, {nodes} after the cleanup; {inventory}."]
    if blocks:
        earlier = sum(block is not None for block in before.blocks)
        sentences.append(f"Attention has {attention} of them" + (f", {earlier} before." if earlier else "."))
    return sentences


def operator_table(graph: GraphOutlines) -> Table:
    """How many nodes of each operator, before and after."""
    states = [("before", graph.before), ("after", graph.after)]
    counts = [(word, Counter(outline.operators)) for word, outline in states if outline]
    names = {name for _, count in counts for name in count}
    ordered = sorted(names, key=lambda name: (-max(count[name] for _, count in counts), name))
    heads = [word for word, _ in counts] if len(counts) > 1 else ["nodes"]
    rows = [[name, *(str(count[name]) for _, count in counts)] for name in ordered]
    return table("Nodes by operator", ["operator", *heads], rows)


def representatives(graph: GraphOutlines) -> list[tuple[str, str, Part | None, Part]]:
    """The first block of each kind: kind, module path, its nodes before (None where unknown) and after."""
    after, before = graph.after, graph.before
    found = []
    for kind in dict.fromkeys(entry.kind for entry in after.inventory):
        index = next(i for i, entry in enumerate(after.inventory) if entry.kind == kind)
        place = after.inventory[index].module_path
        earlier = None
        if before is not None:
            earlier = part_of(before, [i for i, e in enumerate(before.inventory) if _within(e.module_path, place)])
        later = part_of(after, [index])
        if later is not None:
            found.append((kind, place, earlier, later))
    return found


def _within(path: str, place: str) -> bool:
    """Whether a block is this one or a part of it."""
    return path == place or path.startswith(f"{place}.")


def without_constants(part: Part) -> Part:
    """The part without its constants, and with the source that most nodes read, the input map, as the first."""
    kept = [i for i, operator in enumerate(part.operators) if operator != CONSTANT]
    readers = Counter(read for i in kept for read in part.inputs[i] if read < 0)
    sources = [-1 - i for i, operator in enumerate(part.sources) if operator != CONSTANT and readers[-1 - i]]
    sources.sort(key=lambda number: -readers[number])
    place = {old: new for new, old in enumerate(kept)} | {old: -1 - new for new, old in enumerate(sources)}
    return Part(
        tuple(part.operators[i] for i in kept),
        tuple(tuple(place[read] for read in part.inputs[i] if read in place) for i in kept),
        tuple(part.sources[-1 - number] for number in sources),
    )


def part_of(outline: OutlineRecord, blocks: Sequence[int]) -> Part | None:
    """The nodes of these blocks; None without nodes."""
    nodes = [i for i, block in enumerate(outline.blocks) if block in blocks]
    place = {node: i for i, node in enumerate(nodes)}
    sources: dict[int, int] = {}
    inputs = []
    for node in nodes:
        read = []
        for producer in outline.inputs[node]:
            if producer not in place:
                sources.setdefault(producer, -1 - len(sources))
            read.append(place.get(producer, sources.get(producer, 0)))
        inputs.append(tuple(dict.fromkeys(read)))
    operators = outline.operators
    return (
        Part(tuple(operators[i] for i in nodes), tuple(inputs), tuple(operators[i] for i in sources)) if nodes else None
    )


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
    reverted = [[r.rule, error(r.error), error(r.limit), r.place] for r in cleaned.reverted]
    tables = [
        table("Applied rewrites", ["rule", "times", "largest difference, float64"], applied),
        table("Skipped rewrites", ["rule", "times", "<first at", "<because"], skipped),
        table("Reverted rewrites: they would have changed the result", ["rule", "error", "limit", "<at"], reverted),
    ]
    return [made for made in tables if made.rows]
