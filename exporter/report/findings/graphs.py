"""What a record says about graphs before and after the cleanup."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attn_export.exporter.report.findings.table import Table, table
from attn_export.exporter.report.findings.words import counted, listed

Outline = dict[str, Any]
CONSTANT = "Constant"


@dataclass(frozen=True)
class Part:
    """The nodes of one attention block, as a graph of its own.

    Attributes:
        operators: in topological order.
        inputs: of each, the places in ``operators`` of those that it reads; what comes from outside is negative, a
            number of its own for each operator there.
        sources: operators outside that are read, by these numbers: ``sources[-1 - number]``.
    """

    operators: tuple[str, ...]
    inputs: tuple[tuple[int, ...], ...]
    sources: tuple[str, ...]


def graphs_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Outlines of the artifacts' graphs, one of those that are alike."""
    found: list[dict[str, Any]] = []
    for graph in record.get("graphs") or []:
        if graph.get("after") and not any(_alike(graph, other) for other in found):
            found.append(graph)
    return found


def _alike(graph: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(graph["after"] == other["after"] and graph.get("before") == other.get("before"))


def kinds_of(graph: dict[str, Any]) -> list[str]:
    """The kinds of attention in it, in the order in which they appear; those of the cleaned graph first."""
    inventories = [o["inventory"] for o in (graph["after"], graph.get("before")) if o]
    return list(dict.fromkeys(entry["kind"] for inventory in inventories for entry in inventory))


def nodes_by_kind(outline: Outline) -> Counter[str]:
    """How many nodes belong to blocks of each kind; what isn't attention is counted under an empty text."""
    return Counter("" if block is None else outline["inventory"][block]["kind"] for block in outline["blocks"])


def nodes_of_blocks(outline: Outline) -> dict[str, int]:
    """How many nodes each block has, by its module path."""
    counts = Counter(block for block in outline["blocks"] if block is not None)
    return {entry["module_path"]: counts[index] for index, entry in enumerate(outline["inventory"])}


def graph_for(record: dict[str, Any], names: Sequence[str]) -> dict[str, Any] | None:
    """The outlines of the first of these artifacts that has any."""
    return next((graph for graph in record.get("graphs") or [] if graph["artifact"] in names), None)


def graph_sentences(graph: dict[str, Any]) -> list[str]:
    """What the cleanup did, in numbers."""
    after, before = graph["after"], graph.get("before")
    nodes, blocks = len(after["operators"]), len(after["inventory"])
    kinds = Counter(entry["kind"] for entry in after["inventory"])
    attention = sum(block is not None for block in after["blocks"])
    of = listed([f"{count} {kind}" for kind, count in kinds.items()])
    what = f"{of} {'block' if blocks == 1 else 'blocks'}" if blocks else "no attention blocks were recognised"
    if before is None:
        return [
            f"{counted(nodes, 'node')}; {what}, which are {counted(attention, 'node')} of them."
            if blocks
            else f"{counted(nodes, 'node')}; {what}."
        ]
    said = [f"{counted(len(before['operators']), 'node')} as captured, {nodes} after the cleanup; {what}."]
    if blocks:
        earlier = sum(block is not None for block in before["blocks"])
        said.append(f"Attention is {attention} of them" + (f", where it was {earlier}." if earlier else "."))
    return said


def operator_table(graph: dict[str, Any]) -> Table:
    """How many nodes of each operator, before and after, or now where the former state isn't known."""
    states = [(word, Counter(graph[word]["operators"])) for word in ("before", "after") if graph.get(word)]
    counts = [count for _, count in states]
    names = sorted(set().union(*counts), key=lambda name: (-max(count[name] for count in counts), name))
    return table(
        "Nodes by operator",
        ["operator", *([word for word, _ in states] if len(states) > 1 else ["nodes"])],
        [[name, *(str(count[name]) for count in counts)] for name in names],
    )


def representatives(graph: dict[str, Any]) -> list[tuple[str, str, Part | None, Part]]:
    """The first block of each kind: kind, module path, its nodes before (None where that isn't known) and after."""
    after, before = graph["after"], graph.get("before")
    found = []
    for kind in dict.fromkeys(entry["kind"] for entry in after["inventory"]):
        index = next(i for i, entry in enumerate(after["inventory"]) if entry["kind"] == kind)
        place = after["inventory"][index]["module_path"]
        earlier = None
        if before is not None:
            known = [i for i, entry in enumerate(before["inventory"]) if _within(entry["module_path"], place)]
            earlier = part_of(before, known) if known else None
        later = part_of(after, [index])
        if later is not None:
            found.append((kind, place, earlier, later))
    return found


def _within(path: str, place: str) -> bool:
    """Whether a block is this one, or the half of it that its module's path names."""
    return path == place or path.startswith(f"{place}.")


def without_constants(part: Part) -> Part:
    """The same without the operators that only hold a value, which are weights under another name.

    The source that most nodes read, the map that goes in, becomes the first.
    """
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


def part_of(outline: Outline, blocks: Sequence[int]) -> Part | None:
    """The nodes of these blocks; None where there are none."""
    own = [i for i, block in enumerate(outline["blocks"]) if block in blocks]
    place = {node: i for i, node in enumerate(own)}
    sources: dict[int, int] = {}
    inputs = []
    for node in own:
        read = []
        for producer in outline["inputs"][node]:
            if producer not in place:
                sources.setdefault(producer, -1 - len(sources))
            read.append(place.get(producer, sources.get(producer, 0)))
        inputs.append(tuple(dict.fromkeys(read)))
    if not own:
        return None
    return Part(
        tuple(outline["operators"][i] for i in own), tuple(inputs), tuple(outline["operators"][i] for i in sources)
    )
