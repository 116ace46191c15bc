"""The error that each layer and each block adds when it alone is quantized."""

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from attn_export.exporter.artifacts import MODULE_KEY, AttentionBlock
from attn_export.exporter.graph.session import PlainSession
from attn_export.exporter.precision.int8.choose import Trial, Work
from attn_export.exporter.precision.int8.placement import Placement
from attn_export.exporter.precision.int8.qdq import quantized
from attn_export.exporter.precision.int8.quality import compared, scores, worst
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.records.quantization import Sensitivity
from attn_export.exporter.system.progress import counted

IMAGES = 64  # more change the order of the layers by little
LAYER, BLOCK = "layer", "block"


def sensitivity(trial: Trial, work: Work) -> tuple[Sensitivity, ...]:
    """Layers and residual sums, then blocks of several, each group with the largest error first.

    Ranges and weights are the trial's; biases aren't corrected.
    """
    feeds = _first(work.feeds, IMAGES)
    quantized = {*trial.placement.layers, *(node for node, _ in trial.placement.reads)}
    nodes = [node for node in trial.model.graph if node in quantized]
    blocks = _blocks(nodes, work.blocks)
    groups = [(LAYER, node.metadata_props.get(MODULE_KEY) or str(node.name), [node]) for node in nodes]
    groups += [(BLOCK, path, inside) for path, inside in blocks.items() if len(inside) > 1]
    with work.progress.stage("Quantizing each layer and block alone") as advance:
        one_more = counted(advance, len(groups) + 1)
        exact = _run(trial, [], feeds, work)
        one_more()
        found = []
        for kind, name, group in groups:
            quality = compared(exact, _run(trial, group, feeds, work))
            found.append(Sensitivity(kind, name, tuple(str(n.name) for n in group), group[0].op_type, quality))
            one_more()
    return tuple(sorted(found, key=lambda one: (one.kind != LAYER, worst(one.quality))))


def _blocks(nodes: Sequence[ir.Node], blocks: Sequence[AttentionBlock]) -> dict[str, list[ir.Node]]:
    """Nodes by attention block, or by the module around their own."""
    attention = {name: block.place for block in blocks for name in block.nodes}
    found: dict[str, list[ir.Node]] = {}
    for node in nodes:
        path = attention.get(str(node.name)) or node.metadata_props.get(MODULE_KEY, "").rpartition(".")[0]
        if path:
            found.setdefault(path, []).append(node)
    return found


def _first(feeds: Sequence[Arrays], images: int) -> list[Arrays]:
    taken, count = [], 0
    for feed in feeds:
        if count < images:
            taken.append(feed)
            count += len(next(iter(feed.values())))
    return taken


def _run(trial: Trial, alone: Sequence[ir.Node], feeds: Sequence[Arrays], work: Work) -> dict[str, list[Array]]:
    """The scores of the graph with only these nodes quantized."""
    reads = frozenset((node, index) for node, index in trial.placement.reads if node in alone)
    layers = tuple(node for node in trial.placement.layers if node in alone)
    model = quantized(trial.model, Placement(layers, reads, ()), replace(trial.found, corrections={}))
    names = {output: str(value.name) for output, value in scores(trial.model.graph).items()}
    known = {value.name: value for node in model.graph for value in node.outputs}
    model.graph.outputs.extend(known[name] for name in names.values() if not known[name].is_graph_output())
    session = PlainSession(model, work.threads, work.folder)
    runs = [session.run(feed) for feed in feeds]
    return {output: [run[name] for run in runs] for output, name in names.items()}
