"""Which nodes stay in float32, and why."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from attn_export.exporter.graph.facts import attribute, axes_of, constant, dims, is_op, is_pooled
from attn_export.exporter.precision.operator_types import is_known, may_read, may_write, opset_of, reads_any_type
from attn_export.exporter.precision.rounding import LARGEST, LARGEST_CHANGE, Array, change, overflows, rounded, vanishes

# A sum of more numbers than this isn't left to float16. What a runtime accumulates in isn't promised anywhere, and a
# sum in float16 loses up to a rounding with every element, stands still at 2048 equal ones, and overflows at 65504.
# Maps of 7x7 are above, the windows of poolings inside a network below.
LARGEST_SUM = 32
# Of the values seen on the validation images. Other images may give larger ones: activations have long tails, and a
# network's maxima on a few images lie within a factor of two or three of those on many. Three bits are kept free.
MARGIN = 8
SQUARING = ("ReduceL2", "ReduceSumSquare", "LpNormalization", "InstanceNormalization", "MeanVarianceNormalization")
SUMMING = ("ReduceMean", "ReduceSum", "ReduceL1", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd")
COORDINATES = ("GridSample", "AffineGrid", "RoiAlign", "MaxRoiPool")
STATES_ITS_TYPE = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "EyeLike", "Bernoulli")
# What magnifies a small number that was rounded to zero, or passes it on to what does.
MAGNIFYING = ("Sqrt", "Reciprocal", "Log", "Pow", "Div")
TOO_SMALL = "its constants are as small as"
# Layers whose third input is a bias.
ADDING_LAST = ("Conv", "ConvTranspose", "Gemm")
BIAS = 2
# They only move numbers.
MOVING = ("Identity", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Expand")


def reasons(graph: ir.Graph, largest: Mapping[str, float]) -> dict[ir.Node, str]:
    """The nodes that stay in float32, each with half a sentence.

    Args:
        graph: float32, its types known, sorted, without bodies.
        largest: by tensor, the largest absolute value that was seen; what isn't there is taken to be small.
    """
    wide = {name for name, value in largest.items() if not value * MARGIN <= LARGEST}
    sizing = _computing_sizes(graph)
    found: dict[ir.Node, str] = {}
    delicate: set[ir.Node] = set()  # their results may be zero in float16 and aren't, on purpose
    for node in graph:
        if not any(_is_float(value) for value in (*node.inputs, *node.outputs)) or _is_untyped(node):
            continue
        if node in sizing:
            found[node] = "it computes sizes"
        elif _magnifies(node, delicate):
            found[node] = "it magnifies a number that float16 rounds to zero"
            delicate |= set() if is_op(node, "Div") else {node}
        elif reason := _operator(node) or _values(node, wide, largest) or _weights(node, largest):
            found[node] = reason
            delicate |= {node} if reason.startswith(TOO_SMALL) and is_op(node, "Add", "Clip", "Max") else set()
    for node in _squeezing(found):
        found.setdefault(node, "it reads a sum in float32, and a Cast between the two would be a kernel of its own")
    for node in _between(graph, found):
        found[node] = "it moves numbers between places in float32"
    return {node: found[node] for node in graph if node in found}


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def _is_untyped(node: ir.Node) -> bool:
    """Whether the node computes nothing of its own in float32: it only looks at a tensor's size, or converts it."""
    return reads_any_type(node, 0) and not any(_is_float(output) for output in node.outputs)


def _operator(node: ir.Node) -> str:
    """A reason that lies in what the operator does."""
    if not is_known(node):
        return "whether it takes float16 isn't known"
    if is_op(node, *STATES_ITS_TYPE):
        return "it says itself that it makes float32"
    if any(value is not None and not isinstance(value.type, ir.TensorType) for value in (*node.inputs, *node.outputs)):
        return "it handles more than single tensors"
    if _is_float(node.outputs[0]) and not may_write(node, 0):
        return "ONNX has no float16 form of it"
    if is_op(node, *COORDINATES):
        return "coordinates need more than 11 bits"
    if is_op(node, *SQUARING) or (is_op(node, "GroupNormalization") and not _accumulates_in_float32(node)):
        return "it sums squares, which overflow for values of 256 and more"
    count = _summed(node)
    if count > LARGEST_SUM:
        return "it sums over an open number of elements" if math.isinf(count) else f"it sums {count:.0f} elements"
    return ""


def _accumulates_in_float32(node: ir.Node) -> bool:
    """Whether the operator's definition has its statistics in float32, which it has from opset 21."""
    return opset_of(node) >= 21 and attribute(node, "stash_type", 1) == 1


def _summed(node: ir.Node) -> float:
    """How many elements are added up for one of the result; 1 for what isn't a reduction, infinite where that is open.

    Convolutions and matrix products aren't counted: every runtime accumulates those in float32. Maxima are exact.
    """
    shape = dims(node.inputs[0]) if node.inputs else None
    if is_op(node, "AveragePool", "LpPool"):
        return math.prod(attribute(node, "kernel_shape", ()))
    if is_op(node, "GlobalAveragePool", "GlobalLpPool"):
        return _product(None if shape is None else shape[2:])
    if is_op(node, "Softmax", "LogSoftmax"):
        old = opset_of(node) < 13  # everything from the axis on was one axis
        axis = attribute(node, "axis", 1 if old else -1)
        return math.inf if shape is None else _product(shape[axis:] if old else (shape[axis],))
    if is_op(node, "CumSum"):
        return math.inf
    if is_op(node, *SUMMING):
        if attribute(node, "noop_with_empty_axes", 0) and (len(node.inputs) < 2 or node.inputs[1] is None):
            return 1
        axes = axes_of(node)
        return math.inf if axes is None or shape is None else _product(tuple(shape[axis] for axis in axes))
    return 1


def _product(sizes: tuple[int | str | None, ...] | None) -> float:
    if sizes is None:
        return math.inf
    return math.prod(size if isinstance(size, int) else math.inf for size in sizes)


def _values(node: ir.Node, wide: set[str], largest: Mapping[str, float]) -> str:
    """A reason that lies in the values that were seen."""
    for what, values in (("gives", node.outputs), ("reads", node.inputs)):
        for index, value in enumerate(values):
            if value is None or not _is_float(value) or value.name not in wide or constant(value) is not None:
                continue
            if what == "reads" and reads_any_type(node, index):
                continue
            return f"it {what} values up to {largest[str(value.name)]:.3g}, too near to float16's largest"
    return ""


def _weights(node: ir.Node, largest: Mapping[str, float]) -> str:
    """A reason that lies in the node's constants."""
    for index, value in enumerate(node.inputs):
        array = constant(value) if _is_float(value) and may_read(node, index) else None
        if array is None or not array.size:
            continue
        if is_op(node, "Clip") and index and overflows(array):
            continue  # a bound that no float16 reaches; the largest float16 does the same
        if overflows(array):
            return f"its weights go up to {np.abs(array[np.isfinite(array)]).max():.3g}, beyond float16's largest"
        if is_op(node, "BatchNormalization") and index:
            continue
        if is_op(node, *ADDING_LAST) and index == BIAS and _is_lost_in(array, node.outputs[0], largest):
            continue
        if change(array) > LARGEST_CHANGE:
            return f"{TOO_SMALL} {np.abs(array[array != 0]).min():.1e}, where float16 has few digits or none"
        if is_op(node, "Div") and index == 1 and vanishes(array):
            return "it divides by numbers that are zero in float16"
    if is_op(node, "BatchNormalization") and _statistics_suffer(node):
        return "its statistics are too small for float16"
    return ""


def _is_lost_in(bias: Array, output: ir.Value, largest: Mapping[str, float]) -> bool:
    """Whether what rounding a bias changes is below half a rounding of the values that it is added to."""
    seen = largest.get(str(output.name), 0.0)
    moved = np.abs(bias.astype(np.float64) - rounded(bias).astype(np.float64)).max()
    return bool(moved <= float(np.finfo(np.float16).eps) / 2 * seen)


def _statistics_suffer(node: ir.Node) -> bool:
    """Whether rounding its four vectors moves what BatchNormalization multiplies with, or adds, by too much."""
    vectors = [constant(value) for value in node.inputs[1:5]]
    if any(vector is None for vector in vectors):
        return False
    exact = [vector.astype(np.float64) for vector in vectors if vector is not None]
    halves = [rounded(vector).astype(np.float64) for vector in exact]
    epsilon = attribute(node, "epsilon", 1e-5)

    def factors(scale: Array, bias: Array, mean: Array, variance: Array) -> Array:
        factor = scale / np.sqrt(variance + epsilon)
        return np.concatenate([factor, bias, mean])

    before, after = factors(*exact), factors(*halves)
    return not float(np.linalg.norm(after - before)) <= LARGEST_CHANGE * float(np.linalg.norm(before))


def _magnifies(node: ir.Node, delicate: set[ir.Node]) -> bool:
    """Whether the node reads what a small constant was added to, before a division: zero in float16."""
    if not is_op(node, *MAGNIFYING, *MOVING):
        return False
    inputs = node.inputs[1:] if is_op(node, "Div") else node.inputs[:1]
    return any(value is not None and value.producer() in delicate for value in inputs)


def _computing_sizes(graph: ir.Graph) -> set[ir.Node]:
    """The nodes whose float32 results depend on no image and end in a size, an index or a scale of Resize.

    Above 2048 float16 doesn't have every whole number.
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


def _squeezing(found: Mapping[ir.Node, str]) -> list[ir.Node]:
    """The convolutions of (N, C, 1, 1) behind a sum over a map: the first layer of a channel gate.

    In TensorRT-RTX 1.7, where the sum has a transposition before it, its Cast to float16 is a kernel of its own: 136
    kernels instead of 120 for se_resnet50. A convolution in float32, which costs a few kilobytes of weights, avoids it.
    """
    layers, waiting = [], [node for node in found if is_op(node, *SUMMING, "GlobalAveragePool", "AveragePool")]
    while waiting:
        for reader in waiting.pop().outputs[0].consumers():
            if is_op(reader, *MOVING) and _is_float(reader.inputs[0]):
                waiting.append(reader)
            elif is_op(reader, "Conv") and is_pooled(reader.inputs[0]):
                layers.append(reader)
    return layers


def _between(graph: ir.Graph, found: Mapping[ir.Node, str]) -> Iterator[ir.Node]:
    """The nodes that only move numbers from float32 to float32: rounding on the way would be for nothing."""
    moving = [node for node in graph if node not in found and is_op(node, *MOVING) and _is_float(node.inputs[0])]
    stays = {*found, *moving}

    def is_between(node: ir.Node) -> bool:
        source, output = node.inputs[0], node.outputs[0]
        before = source.producer() if source is not None else None
        if before not in stays and (before is not None or source is None or not source.is_graph_input()):
            return False
        readers = output.consumers()
        if output.is_graph_output():
            return True
        return bool(readers) and all(reader in stays or is_op(reader, "Shape", "Size") for reader in readers)

    while leaving := [node for node in moving if node in stays and not is_between(node)]:
        stays -= set(leaving)
    return (node for node in moving if node in stays)
