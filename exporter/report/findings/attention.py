"""What a record says about attention: which blocks there are, and what they cost."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from attn_export.exporter.report.findings.errors import artifacts_of
from attn_export.exporter.report.findings.graphs import nodes_of_blocks
from attn_export.exporter.report.findings.table import QUIET, Cell, Table, table
from attn_export.exporter.report.findings.words import (
    counted,
    decimals,
    interval,
    large,
    listed,
    milliseconds,
    percent,
    ratio,
    size,
)

Cost = dict[str, Any]


def costs_of(record: dict[str, Any]) -> list[Cost]:
    """What attention costs, for each artifact, runtime and batch that it was measured for."""
    return list(record.get("attention_cost") or [])


def engines_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The artifacts whose kernels are known, with their cost by block."""
    return [a for a in artifacts_of(record) if (a.get("cost") or {}).get("blocks")]


def inventories_of(record: dict[str, Any]) -> list[tuple[list[str], list[dict[str, Any]]]]:
    """The attention blocks that artifacts have: names of those with the same, and the blocks."""
    found: list[tuple[list[str], list[dict[str, Any]]]] = []
    for artifact in artifacts_of(record):
        blocks = artifact.get("attention")
        if blocks is None:
            continue
        same = next((names for names, other in found if _alike(other, blocks)), None)
        if same is None:
            found.append(([artifact["path"]], list(blocks)))
        else:
            same.append(artifact["path"])
    return found


def _alike(blocks: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> bool:
    def facts(block: dict[str, Any]) -> tuple[Any, ...]:
        return block["kind"], block["module_path"], block["channels"], len(block["nodes"])

    return [facts(b) for b in blocks] == [facts(b) for b in others]


def inventory_table(
    names: Sequence[str], blocks: Sequence[dict[str, Any]], cost: Cost | None, graph: dict[str, Any] | None = None
) -> Table:
    """One row for each block; with what it costs where that was measured.

    Args:
        names: of the artifacts that have them.
        blocks: as the record lists them.
        cost: one measurement, None where there is none.
        graph: outlines of one of the artifacts, from which nodes are counted as in the pictures; None without.
    """
    before = nodes_of_blocks(graph["before"]) if graph and graph.get("before") else {}
    by_path = {entry["module_path"]: entry for entry in (cost or {}).get("blocks") or []}
    measured = [by_path.get(place_of(block)) for block in blocks]
    places = decimals([entry["ms"] for entry in measured if entry and entry.get("ms")])

    def row(block: dict[str, Any], entry: dict[str, Any] | None) -> list[str | Cell]:
        facts = ("" if block[key] is None else str(block[key]) for key in ("channels", "reduction", "kernel"))
        figures = ["", "", ""]
        if entry:
            figures = [
                "" if entry.get("macs") is None else large(entry["macs"]),
                "" if entry.get("ms") is None else milliseconds(entry["ms"], places),
                "" if entry.get("share") is None else percent(entry["share"]),
            ]
        earlier, now = before.get(place_of(block), block["nodes_before"]), len(block["nodes"])
        nodes = str(now) if earlier == now else f"{earlier} → {now}"
        return [place_of(block), Cell(block["kind"], QUIET), *facts, nodes, *figures]

    heads = "module,<kind,channels,reduction,kernel,nodes,MACs,ms,share of kernel time".split(",")
    rows = [row(block, entry) for block, entry in zip(blocks, measured, strict=True)]
    title = f"Attention blocks of {listed(list(names))}"
    if cost and len(names) > 1:
        title += f"; MACs and times are those of {cost['artifact']}"
    return table(title, heads, rows)


def place_of(block: dict[str, Any]) -> str:
    """The module's path, or the name of the gated map."""
    return block["module_path"] or (block["maps"] or ["unknown"])[-1]


def cost_for(record: dict[str, Any], names: Sequence[str]) -> Cost | None:
    """The first measurement for any of these artifacts that tells of blocks."""
    return next((c for c in costs_of(record) if c["artifact"] in names and c.get("blocks")), None)


def blocks_words(blocks: Sequence[dict[str, Any]]) -> str:
    """``16 SE blocks``."""
    kinds = Counter(block["kind"] for block in blocks)
    parts = [f"{count} {kind}" for kind, count in kinds.items()]
    return f"{listed(parts)} {'block' if len(blocks) == 1 else 'blocks'}" if parts else "no attention blocks"


def cost_sentence(cost: Cost) -> str:
    """``16 SE blocks: 0.4 % of the MACs, 8 % of the kernels' time``, and what leaving them out gives."""
    blocks = cost.get("blocks") or []
    where = f"{cost['artifact']} in {cost['runtime']}, batch {cost['batch']}"
    parts = []
    if cost.get("macs") and cost.get("attention_macs") is not None:
        parts.append(f"{percent(cost['attention_macs'] / cost['macs'])} of the MACs")
    if cost.get("profiled_ms") and cost.get("attention_ms") is not None:
        parts.append(f"{percent(cost['attention_ms'] / cost['profiled_ms'])} of the kernels' time")
    said = f"{blocks_words(blocks) if blocks else 'Attention'}: {', '.join(parts)}" if parts else ""
    if cost.get("ratio") is not None:
        told = _without(cost)
        said = f"{said}; {told}" if said else f"{told[0].upper()}{told[1:]}"
    missed = f" {cost['missed'][0].upper()}{cost['missed'][1:]}." if cost.get("missed") else ""
    return f"{where}: {said}.{missed}" if said else f"{where}: not measured.{missed}"


def _without(cost: Cost) -> str:
    between = interval(cost["ratio_interval"]) if cost.get("ratio_interval") else ""
    told = f"with attention the network takes {ratio(cost['ratio'])} times as long as without ({between})"
    return f"{told}, which can't be told from no difference" if cost.get("verdict") == "can't tell" else told


def cost_table(record: dict[str, Any]) -> Table | None:
    """One row for each measurement; None where there is none."""
    costs = costs_of(record)
    if not costs:
        return None
    return table(
        "The network with its attention, and the same graph without",
        [
            *("artifact", "<runtime", "batch", "with, ms", "without, ms", "with / without", "interval", "<verdict"),
            *("MACs", "in attention", "time of nodes, ms", "in attention, ms", "<not told"),
        ],
        [
            [
                c["artifact"],
                c["runtime"],
                str(c["batch"]),
                *("" if c.get(key) is None else milliseconds(c[key]) for key in ("with_ms", "without_ms")),
                "" if c.get("ratio") is None else ratio(c["ratio"]),
                interval(c.get("ratio_interval")),
                c.get("verdict") or "",
                *("" if c.get(key) is None else large(c[key]) for key in ("macs", "attention_macs")),
                *("" if c.get(key) is None else milliseconds(c[key]) for key in ("profiled_ms", "attention_ms")),
                c.get("missed") or "",
            ]
            for c in costs
        ],
    )


def engine_table(engine: dict[str, Any]) -> Table:
    """The kernels of each block of an engine."""
    return table(
        f"Kernels of {engine['path']}",
        ["module", "<kind", "kernels", "shared", "nodes", "weights", "writes per image"],
        [
            [
                block["module_path"],
                Cell(block["kind"], QUIET),
                str(block["kernels"]),
                str(block["shared"] or ""),
                str(block["fused_nodes"]),
                size(block["weights_bytes"]),
                "" if block["activation_bytes"] is None else size(block["activation_bytes"]),
            ]
            for block in engine["cost"]["blocks"]
        ],
    )


def engine_sentence(engine: dict[str, Any]) -> str:
    """What attention adds to an engine."""
    cost = engine["cost"]
    kernels, plain = cost["kernels"], cost["kernels_without_attention"]
    if kernels is None:
        return f"How many kernels {engine['path']} has is not known."
    if plain is None:
        return f"{engine['path']} has {counted(kernels, 'kernel')}."
    return f"{engine['path']}: attention adds {counted(kernels - plain, 'kernel')}, {kernels} instead of {plain}."


def summary(record: dict[str, Any]) -> tuple[str, str] | None:
    """The largest figure and a sentence, for the head of the page; None where there is no attention or no figure."""
    for cost in costs_of(record):
        if cost.get("profiled_ms") and cost.get("attention_ms") is not None:
            return f"{percent(cost['attention_ms'] / cost['profiled_ms'])} of the kernels' time", cost_sentence(cost)
        if cost.get("ratio") is not None:
            return f"{ratio(cost['ratio'])}× with it", cost_sentence(cost)
    for names, blocks in inventories_of(record):
        if blocks:
            return blocks_words(blocks), f"{listed(names)}; what they cost was not measured."
    return None
