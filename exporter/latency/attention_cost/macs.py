"""Counts the multiply-accumulates of a graph from its shapes."""

from collections.abc import Mapping
from math import prod

import onnx_ir as ir

from attn_export.exporter.artifacts import OnnxFile
from attn_export.exporter.graph.attention.members import members_of, owners_of
from attn_export.exporter.graph.facts import attribute, dims, is_op, made_by
from attn_export.exporter.graph.read import named, parsed
from attn_export.exporter.graph.shapes import infer_shapes
from attn_export.exporter.system.quiet import quiet

Sizes = tuple[int, ...]


def macs_of_blocks(file: OnnxFile) -> tuple[int, tuple[int, ...]] | None:
    """The MACs of the network and of each of its blocks for one image; None if a shape is unknown.

    Nodes of nested blocks count for the inner one.

    Raises:
        UnreadableGraphError: the file can't be read.
    """
    model = named(parsed(file).copy())
    owner = owners_of(members_of(model, file.blocks))
    counted = macs_of(model, {taken.name: taken.shape for taken in file.signature.inputs})
    if counted is None:
        return None
    of_blocks = [0] * len(file.blocks)
    for node, macs in counted.items():
        if node in owner:
            of_blocks[owner[node]] += macs
    return sum(counted.values()), tuple(of_blocks)


def macs_of(model: ir.Model, shapes: Mapping[str, Sizes]) -> dict[ir.Node, int] | None:
    """The MACs of the main graph's convolutions and matrix products for one image, without zeros.

    Pooling and element-wise operators don't count, as is usual. The model is changed: its shapes are inferred again
    from those of the inputs, (N, ...). None if a shape is unknown.
    """
    counted, unknown = _counted(model, shapes)
    while unknown:  # constant folding makes further shapes known
        from attn_export.exporter.cleanup.pipeline import prepare

        before = unknown
        prepare(model)
        counted, unknown = _counted(model, shapes)
        if unknown >= before:
            return None
    return counted


def _counted(model: ir.Model, shapes: Mapping[str, Sizes]) -> tuple[dict[ir.Node, int], int]:
    """The nonzero MACs of nodes for one image, and the number of unknown ones."""
    _infer(model, shapes)
    batch = next(iter(shapes.values()))[0]
    counted = {node: _macs(node) for node in model.graph}
    return {node: macs // batch for node, macs in counted.items() if macs}, list(counted.values()).count(None)


def _infer(model: ir.Model, shapes: Mapping[str, Sizes]) -> None:
    """Infer all shapes from the inputs'; the file's shapes, with a dynamic batch, are dropped."""
    for value in model.graph.inputs:
        if (shape := shapes.get(str(value.name))) is not None:
            value.shape = ir.Shape(shape)
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    with quiet():
        infer_shapes(model)


def _macs(node: ir.Node) -> int | None:
    """The MACs of one node for the whole batch; None if a shape is unknown."""
    product = made_by(node.inputs[0], "Mul") if is_op(node, "ReduceSum") else None
    if product is not None and any(value is not None and value.const_value is not None for value in product.inputs):
        sizes = _sizes(product.outputs[0])  # TensorRT's form of a matrix product
        return None if sizes is None else prod(sizes)
    if not is_op(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    first, weight, output = _sizes(node.inputs[0]), _sizes(node.inputs[1]), _sizes(node.outputs[0])
    if first is None or weight is None or output is None:
        return None
    if node.op_type == "Conv":  # output (N, M, …), weights (M, C / groups, …)
        return prod(output) * prod(weight[1:])
    if node.op_type == "ConvTranspose":  # input (N, C, …), weights (C, M / groups, …)
        return prod(first) * prod(weight[1:])
    inner = first[0] if node.op_type == "Gemm" and attribute(node, "transA", 0) else first[-1]
    return prod(output) * inner


def _sizes(value: ir.Value | None) -> Sizes | None:
    sizes = dims(value)
    known = tuple(size for size in sizes or () if isinstance(size, int))
    return known if sizes is not None and len(known) == len(sizes) else None
