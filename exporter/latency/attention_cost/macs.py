"""Multiply-accumulates of a graph, counted from its shapes."""

from math import prod

import onnx_ir as ir
import onnx_ir.passes.common as common

from attn_export.exporter.artifacts import OnnxFile
from attn_export.exporter.graph.attention.members import members_of, owners_of
from attn_export.exporter.graph.facts import attribute, dims, is_op, made_by
from attn_export.exporter.graph.read import named, parsed
from attn_export.exporter.system.quiet import quiet

Sizes = tuple[int, ...]


def macs_of_blocks(file: OnnxFile) -> tuple[int, tuple[int, ...]] | None:
    """Of the network and of each of its blocks, for one image; None where a shape can't be told.

    What lies in a block within another is counted for the inner one.

    Raises:
        UnreadableGraphError: the file can't be read.
    """
    model = named(parsed(file).copy())
    owner = owners_of(members_of(model, file.blocks))
    counted = macs_of(model, file.signature.input_name, file.signature.input_shape)
    if counted is None:
        return None
    own = [0] * len(file.blocks)
    for node, macs in counted.items():
        if node in owner:
            own[owner[node]] += macs
    return sum(counted.values()), tuple(own)


def macs_of(model: ir.Model, input_name: str, shape: Sizes) -> dict[ir.Node, int] | None:
    """Of the convolutions and matrix products of the main graph, for one image.

    Poolings, gates and other element-wise work are no MACs, as is usual.

    Args:
        model: it is changed: its shapes become those that follow from the input's.
        input_name: of the one input.
        shape: (N, C, H, W) that it has.

    Returns:
        Node -> MACs, for nodes that have any; None where a shape can't be told.
    """
    counted, unknown = _counted(model, input_name, shape)
    while unknown:  # sizes that the graph computes can be folded, and tell others
        from attn_export.exporter.cleanup.pipeline import prepare

        before = unknown
        prepare(model)
        counted, unknown = _counted(model, input_name, shape)
        if unknown >= before:
            return None
    return counted


def _counted(model: ir.Model, input_name: str, shape: Sizes) -> tuple[dict[ir.Node, int], int]:
    """The MACs of nodes that have any, for one image, and of how many they can't be told."""
    _infer(model, input_name, shape)
    counted = {node: _macs(node) for node in model.graph}
    return {node: macs // shape[0] for node, macs in counted.items() if macs}, list(counted.values()).count(None)


def _infer(model: ir.Model, input_name: str, shape: Sizes) -> None:
    """Let ONNX tell all shapes from the input's; what the file says of an open batch doesn't count."""
    for value in model.graph.inputs:
        if value.name == input_name:
            value.shape = ir.Shape(shape)
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    with quiet():
        common.ShapeInferencePass(check_type=False, strict_mode=False)(model)


def _macs(node: ir.Node) -> int | None:
    """Of one node for the whole batch; None where a shape isn't known."""
    product = made_by(node.inputs[0], "Mul") if is_op(node, "ReduceSum") else None
    if product is not None and any(value is not None and value.const_value is not None for value in product.inputs):
        made = _sizes(product.outputs[0])  # a matrix product, spelled as one for TensorRT
        return None if made is None else prod(made)
    if not is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    first, weight, made = _sizes(node.inputs[0]), _sizes(node.inputs[1]), _sizes(node.outputs[0])
    if first is None or weight is None or made is None:
        return None
    if node.op_type == "Conv":  # (N, M, …) is made with weights (M, C / groups, …)
        return prod(made) * prod(weight[1:])
    if node.op_type == "ConvTranspose":  # (N, C, …) is read with weights (C, M / groups, …)
        return prod(first) * prod(weight[1:])
    inner = first[0] if node.op_type == "Gemm" and attribute(node, "transA", 0) else first[-1]
    return prod(made) * inner


def _sizes(value: ir.Value | None) -> Sizes | None:
    sizes = dims(value)
    known = tuple(size for size in sizes or () if isinstance(size, int))
    return known if sizes is not None and len(known) == len(sizes) else None
