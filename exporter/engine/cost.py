"""What attention costs in an engine: kernels, bytes, and how many kernels more than the same network without it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as common

from attn_export.exporter.engine.graph import GraphFacts, read_named
from attn_export.exporter.engine.kernels import KernelReport
from attn_export.exporter.inventory import AttentionBlock
from attn_export.exporter.quiet import quiet


@dataclass(frozen=True)
class BlockCost:
    """One attention block in an engine.

    Attributes:
        module_path, kind: of the block.
        kernels: that compute any node of it.
        shared: of these, kernels that also compute what isn't attention, such as the addition after it.
        fused_nodes: ONNX nodes of the block that these kernels compute.
        weights_bytes: of its layers.
        activation_bytes: that its kernels write for each image; None where sizes are open.
    """

    module_path: str
    kind: str
    kernels: int
    shared: int
    fused_nodes: int
    weights_bytes: int
    activation_bytes: int | None


def block_costs(report: KernelReport, facts: GraphFacts) -> tuple[BlockCost, ...]:
    """One for each attention block, in the order in which they are computed."""
    return tuple(_cost(block, report, facts) for block in facts.blocks) if report.kernels else ()


def _cost(block: AttentionBlock, report: KernelReport, facts: GraphFacts) -> BlockCost:
    own = set(block.nodes)
    kernels = [kernel for kernel in report.kernels if own.intersection(kernel.nodes)]
    written = [kernel.bytes_written for kernel in kernels]
    return BlockCost(
        module_path=block.place,
        kind=block.kind,
        kernels=len(kernels),
        shared=sum(not own.issuperset(kernel.nodes) for kernel in kernels),
        fused_nodes=len(own.intersection(node for kernel in kernels for node in kernel.nodes)),
        weights_bytes=sum(facts.weights.get(node, 0) for node in own),
        activation_bytes=None if None in written else sum(count for count in written if count is not None),
    )


def without_attention(path: Path, blocks: Sequence[AttentionBlock]) -> ir.Model | None:
    """The same network with every attention block replaced by the map that goes into it.

    Args:
        path: the ONNX file.
        blocks: its attention blocks.

    Returns:
        The graph, to be built for its kernels and never to be run; None where a block has no such map, or something
        else reads its gate.
    """
    model = read_named(path)
    nodes = {node.name: node for node in model.graph}
    for block in blocks:
        own = {nodes[name] for name in block.nodes if name in nodes}
        final = next((v for node in own for v in node.outputs if v.name == block.maps[-1]), None)
        source = _entering(own, final) if final is not None else None
        if final is None or source is None or final.is_graph_output():
            return None
        final.replace_all_uses_with(source)
    with quiet():
        common.RemoveUnusedNodesPass()(model)
    left = {value.name for node in model.graph for value in node.outputs}
    return model if left.isdisjoint(gate for block in blocks for gate in block.gates) else None


def _entering(own: set[ir.Node], final: ir.Value) -> ir.Value | None:
    """The map that a block gates: of what flows into it, the one that its multiplication reads."""
    waiting, seen = [final.producer()], set()
    while waiting:
        node = waiting.pop()
        if node is None or node not in own or node in seen:
            continue
        seen.add(node)
        outside = [v for v in node.inputs if v is not None and v.const_value is None and v.producer() not in own]
        if outside and node.op_type == "Mul":
            return outside[0]
        waiting += [v.producer() for v in node.inputs if v is not None]
    return None
