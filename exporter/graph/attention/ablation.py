"""The ablated model of any graph: the same network without its attention blocks."""

from collections.abc import Sequence

import onnx_ir as ir
import onnx_ir.passes.common as common

from attn_export.exporter.artifacts import AttentionBlock
from attn_export.exporter.graph.attention.members import members_of
from attn_export.exporter.graph.facts import dims, stored
from attn_export.exporter.system.quiet import quiet


def without_attention(model: ir.Model, blocks: Sequence[AttentionBlock]) -> ir.Model | None:
    """Replace every attention block of a graph by its input map.

    Every node of the model has a name; the model is changed.

    Returns:
        The graph, which runs and computes nothing meaningful. None where a block has no such map, or something else
        reads its gate.
    """
    for block, own in zip(blocks, members_of(model, blocks), strict=True):
        final = next((v for node in own for v in node.outputs if v.name == block.maps[-1]), None)
        source = _entering(own, final) if final is not None else None
        if final is None or source is None or final.is_graph_output():
            return None
        final.replace_all_uses_with(source)
    with quiet():
        common.RemoveUnusedNodesPass()(model)
    left = {value.name for node in model.graph for value in node.outputs}
    return model if left.isdisjoint(gate for block in blocks for gate in block.gates) else None


def _entering(own: frozenset[ir.Node], final: ir.Value) -> ir.Value | None:
    """The map that a block gates: of what flows into it, the one that its multiplication reads."""
    waiting, seen = [final.producer()], set()
    while waiting:
        node = waiting.pop()
        if node is None or node not in own or node in seen:
            continue
        seen.add(node)
        outside = [v for v in node.inputs if v is not None and stored(v) is None and v.producer() not in own]
        if node.op_type in ("Mul", "Einsum") and (maps := [v for v in outside if _may_replace(v, final)]):
            return maps[0]
        waiting += [v.producer() for v in node.inputs if v is not None]
    return None


def _may_replace(value: ir.Value, other: ir.Value) -> bool:
    """Whether both have one type and one shape, as far as the graph tells."""
    if value.dtype is not None and other.dtype is not None and value.dtype != other.dtype:
        return False
    first, second = dims(value), dims(other)
    if first is None or second is None:
        return True
    known = [(a, b) for a, b in zip(first, second, strict=False) if isinstance(a, int) and isinstance(b, int)]
    return len(first) == len(second) and all(a == b for a, b in known)
