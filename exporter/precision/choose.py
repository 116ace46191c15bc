"""Selects the nodes that stay in float32, each with a reason."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from attn_export.exporter.graph.facts import attribute, axes_of, constant, dims, is_op, is_pooled
from attn_export.exporter.precision.operator_types import is_known, may_read, may_write, opset_of, reads_any_type
from attn_export.exporter.precision.rounding import HalfType
from attn_export.exporter.records.arrays import Array

# Longer sums stay in float32: the accumulator's type is up to the runtime, and a sum in 16 bits loses up to one
# rounding for each element. It stops growing at 2048 equal ones in float16, where it also overflows at 65504, and at
# 256 in bfloat16. Only maps of 7x7 and above are longer, not pooling windows.
LARGEST_SUM = 32
# Three bits above the largest value on the validation images: activations have long tails, and the maxima over few
# images lie within a factor of two or three of those over many.
MARGIN = 8
SQUARES = ("ReduceL2", "ReduceSumSquare", "LpNormalization", "InstanceNormalization", "MeanVarianceNormalization")
SUMS = ("ReduceMean", "ReduceSum", "ReduceL1", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd")
COORDINATES = ("GridSample", "AffineGrid", "RoiAlign", "MaxRoiPool")
HAS_DTYPE = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "EyeLike", "Bernoulli")
# Operators that amplify small values, and so the error of rounding them to zero.
AMPLIFYING = ("Sqrt", "Reciprocal", "Log", "Pow", "Div")
TOO_SMALL = "its constants are as small as"
WITH_BIAS = ("Conv", "ConvTranspose", "Gemm")
BIAS = 2  # input index
DATA_MOVEMENT = ("Identity", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Expand")


def float32_nodes(graph: ir.Graph, largest: Mapping[str, float], kind: HalfType) -> dict[ir.Node, str]:
    """The nodes that stay in float32, each with its reason.

    The graph is float32, sorted, with known types and without subgraphs. ``largest`` are the largest absolute
    values on the validation images; missing tensors count as small.
    """
    wide = {name for name, value in largest.items() if not value * MARGIN <= kind.largest}
    sizing = _size_arithmetic(graph)
    found: dict[ir.Node, str] = {}
    guarded: set[ir.Node] = set()  # a small constant keeps their results away from zero
    for node in graph:
        if not any(_is_float(value) for value in (*node.inputs, *node.outputs)) or _ignores_type(node):
            continue
        if node in sizing:
            found[node] = "it computes sizes"
        elif _amplifies(node, guarded):
            found[node] = f"it amplifies a value that {kind} rounds to zero"
            guarded |= set() if is_op(node, "Div") else {node}
        elif reason := (
            _operator_reason(node, kind)
            or _value_reason(node, wide, largest, kind)
            or _weight_reason(node, largest, kind)
        ):
            found[node] = reason
            guarded |= {node} if reason.startswith(TOO_SMALL) and is_op(node, "Add", "Clip", "Max") else set()
    for node in _gate_layers(found):
        found.setdefault(node, "it reads a float32 sum, and a Cast between them would be an extra kernel")
    for node in _data_movement(graph, found):
        found[node] = "it moves data between float32 nodes"
    return {node: found[node] for node in graph if node in found}


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def _ignores_type(node: ir.Node) -> bool:
    """Whether the node only reads a tensor's shape, or converts it."""
    return reads_any_type(node, 0) and not any(_is_float(output) for output in node.outputs)


def _operator_reason(node: ir.Node, kind: HalfType) -> str:
    if not is_known(node):
        return f"its {kind} support is unknown"
    if is_op(node, *HAS_DTYPE):
        return "its output type is an attribute"
    if any(value is not None and not isinstance(value.type, ir.TensorType) for value in (*node.inputs, *node.outputs)):
        return "it has inputs or outputs that aren't tensors"
    if _is_float(node.outputs[0]) and not may_write(node, 0, kind):
        return f"ONNX defines no {kind} variant"
    if is_op(node, *COORDINATES):
        return "coordinates need more bits"
    if is_op(node, *SQUARES) or (is_op(node, "GroupNormalization") and not _accumulates_in_float32(node)):
        return "it sums squares, which overflow or lose digits"
    count = terms(node)
    if count > LARGEST_SUM:
        return "it sums a dynamic number of elements" if math.isinf(count) else f"it sums {count:.0f} elements"
    return ""


def _accumulates_in_float32(node: ir.Node) -> bool:
    """Whether the operator is defined with float32 statistics, as from opset 21 on."""
    return opset_of(node) >= 21 and attribute(node, "stash_type", 1) == 1


def terms(node: ir.Node) -> float:
    """The number of terms in each sum of a reduction; 1 for other nodes, infinite if dynamic.

    Convolutions and matrix products don't count: every runtime accumulates them in float32. Maxima are exact.
    """
    shape = dims(node.inputs[0]) if node.inputs else None
    if is_op(node, "AveragePool", "LpPool"):
        return math.prod(attribute(node, "kernel_shape", ()))
    if is_op(node, "GlobalAveragePool", "GlobalLpPool"):
        return _product(None if shape is None else shape[2:])
    if is_op(node, "Softmax", "LogSoftmax"):
        old = opset_of(node) < 13  # normalizes over all axes from this one on
        axis = attribute(node, "axis", 1 if old else -1)
        return math.inf if shape is None else _product(shape[axis:] if old else (shape[axis],))
    if is_op(node, "CumSum"):
        return math.inf
    if is_op(node, *SUMS):
        if attribute(node, "noop_with_empty_axes", 0) and (len(node.inputs) < 2 or node.inputs[1] is None):
            return 1
        axes = axes_of(node)
        return math.inf if axes is None or shape is None else _product(tuple(shape[axis] for axis in axes))
    return 1


def _product(sizes: tuple[int | str | None, ...] | None) -> float:
    if sizes is None:
        return math.inf
    return math.prod(size if isinstance(size, int) else math.inf for size in sizes)


def _value_reason(node: ir.Node, wide: set[str], largest: Mapping[str, float], kind: HalfType) -> str:
    for side, values in (("output", node.outputs), ("input", node.inputs)):
        for index, value in enumerate(values):
            if value is None or not _is_float(value) or value.name not in wide or constant(value) is not None:
                continue
            if side == "input" and reads_any_type(node, index):
                continue
            return f"its {side} reaches {largest[str(value.name)]:.3g}, too close to {kind}'s maximum"
    return ""


def _weight_reason(node: ir.Node, largest: Mapping[str, float], kind: HalfType) -> str:
    for index, value in enumerate(node.inputs):
        array = constant(value) if _is_float(value) and may_read(node, index, kind) else None
        if array is None or not array.size:
            continue
        if is_op(node, "Clip") and index and kind.overflows(array):
            continue  # an unreachable bound; saturation has the same effect
        if kind.overflows(array):
            return f"its weights reach {np.abs(array[np.isfinite(array)]).max():.3g}, beyond {kind}'s maximum"
        if is_op(node, "BatchNormalization") and index:
            continue
        if is_op(node, *WITH_BIAS) and index == BIAS and _is_absorbed(array, node.outputs[0], largest, kind):
            continue
        if kind.change(array) > kind.largest_change:
            return f"{TOO_SMALL} {np.abs(array[array != 0]).min():.1e}, where {kind} loses precision"
        if is_op(node, "Div") and index == 1 and kind.vanishes(array):
            return f"it divides by values that {kind} rounds to zero"
    if is_op(node, "BatchNormalization") and _statistics_change(node, kind):
        return f"its statistics are too small for {kind}"
    return ""


def _is_absorbed(bias: Array, output: ir.Value, largest: Mapping[str, float], kind: HalfType) -> bool:
    """Whether rounding a bias changes it by less than half a rounding of the layer's output."""
    magnitude = largest.get(str(output.name), 0.0)
    moved = np.abs(bias.astype(np.float64) - kind.rounded(bias).astype(np.float64)).max()
    return bool(moved <= kind.eps / 2 * magnitude)


def _statistics_change(node: ir.Node, kind: HalfType) -> bool:
    """Whether rounding its four vectors changes the factor or offset of BatchNormalization too much."""
    vectors = [constant(value) for value in node.inputs[1:5]]
    if any(vector is None for vector in vectors):
        return False
    exact = [vector.astype(np.float64) for vector in vectors if vector is not None]
    halves = [kind.rounded(vector).astype(np.float64) for vector in exact]
    epsilon = attribute(node, "epsilon", 1e-5)

    def factors(scale: Array, bias: Array, mean: Array, variance: Array) -> Array:
        factor = scale / np.sqrt(variance + epsilon)
        return np.concatenate([factor, bias, mean])

    before, after = factors(*exact), factors(*halves)
    return not float(np.linalg.norm(after - before)) <= kind.largest_change * float(np.linalg.norm(before))


def _amplifies(node: ir.Node, guarded: set[ir.Node]) -> bool:
    """Whether the node amplifies, or passes on, a result that only a small constant keeps away from zero."""
    if not is_op(node, *AMPLIFYING, *DATA_MOVEMENT):
        return False
    inputs = node.inputs[1:] if is_op(node, "Div") else node.inputs[:1]
    return any(value is not None and value.producer() in guarded for value in inputs)


def _size_arithmetic(graph: ir.Graph) -> set[ir.Node]:
    """The float32 nodes that compute a size, an index or a Resize scale, independently of the images.

    float16 doesn't represent all integers above 2048, bfloat16 above 256.
    """
    from_images = {value for value in graph.inputs if _is_float(value)}
    for node in graph:
        if not is_op(node, "Shape", "Size") and any(value in from_images for value in node.inputs):
            from_images |= set(node.outputs)
    found: set[ir.Node] = set()
    for node in reversed(graph):
        for value in node.inputs:
            before = value.producer() if value is not None and _is_float(value) else None
            if before is not None and value not in from_images and (node in found or _ends_in_size(node, value)):
                found.add(before)
    return found


def _ends_in_size(node: ir.Node, value: ir.Value | None) -> bool:
    if is_op(node, "Cast"):
        return not _is_float(node.outputs[0])
    return is_op(node, "Resize", "Upsample") and value is not node.inputs[0]


def _gate_layers(found: Mapping[ir.Node, str]) -> list[ir.Node]:
    """The first convolution of each channel gate, whose input (N, C, 1, 1) is a sum over a map.

    If a transposition precedes the sum, TensorRT-RTX 1.7 computes the Cast back in an extra kernel: 136 kernels
    instead of 120 for se_resnet50. A float32 convolution avoids it for a few kilobytes of weights.
    """
    layers, waiting = [], [node for node in found if is_op(node, *SUMS, "GlobalAveragePool", "AveragePool")]
    while waiting:
        for reader in waiting.pop().outputs[0].consumers():
            if is_op(reader, *DATA_MOVEMENT) and _is_float(reader.inputs[0]):
                waiting.append(reader)
            elif is_op(reader, "Conv") and is_pooled(reader.inputs[0]):
                layers.append(reader)
    return layers


def _data_movement(graph: ir.Graph, found: Mapping[ir.Node, str]) -> Iterator[ir.Node]:
    """The nodes that only move data between float32 nodes, where rounding would gain nothing."""
    moving = [node for node in graph if node not in found and is_op(node, *DATA_MOVEMENT) and _is_float(node.inputs[0])]
    stays = {*found, *moving}

    def is_data_movement(node: ir.Node) -> bool:
        source, output = node.inputs[0], node.outputs[0]
        before = source.producer() if source is not None else None
        if before not in stays and (before is not None or source is None or not source.is_graph_input()):
            return False
        readers = output.consumers()
        if output.is_graph_output():
            return True
        return bool(readers) and all(reader in stays or is_op(reader, "Shape", "Size") for reader in readers)

    while leaving := [node for node in moving if node in stays and not is_data_movement(node)]:
        stays -= set(leaving)
    return (node for node in moving if node in stays)
