"""The largest absolute value of each tensor of a network."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import ParsedFile
from attn_export.exporter.errors import InputError
from attn_export.exporter.graph.session import PlainSession, SessionError
from attn_export.exporter.records.arrays import Array


def largest_values(
    file: ParsedFile, feeds: Sequence[Mapping[str, Array]], threads: int, of: ir.DataType = ir.DataType.FLOAT
) -> dict[str, float]:
    """The largest absolute value of every tensor of one type in an ONNX file on these inputs.

    A copy of the graph, without its weights, returns two numbers for each tensor. It runs without optimizations, which
    would fuse tensors away.

    ``of`` is float32 or float16.

    Returns:
        tensor -> value, infinite after a NaN or an infinity.

    Raises:
        InputError: ONNX Runtime can't run it on these inputs.
    """
    model, path = file.copy(), file.path
    for value in model.graph.inputs:
        fed = feeds[0].get(str(value.name))
        if fed is not None and fed.dtype == np.float32 and value.dtype not in (None, ir.DataType.FLOAT):
            raise InputError(
                f"{path} takes {value.name} as {value.dtype.name.lower()}, but only float32 inputs are supported here",
                hint="Export the network with float32 inputs, or build the file in its present precision.",
            )
    names = _measure(model.graph, of)
    largest = dict.fromkeys(names, 0.0)
    try:
        session = PlainSession(model, threads, path.parent)
        for feed in feeds:
            results = iter(session.run(feed).values())
            for name, (maximum, total) in zip(names, zip(results, results, strict=True), strict=True):
                largest[name] = max(largest[name], math.inf if math.isnan(float(total)) else float(maximum))
    except SessionError as error:
        raise InputError(
            f"ONNX Runtime can't run {path} to measure the range of its values: {error}",
            hint="Does its input have the size of the images?",
        ) from error
    return largest


def narrowed(model: ir.Model, feeds: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """The inputs in the types that a graph takes."""
    types = {str(value.name): value.dtype for value in model.graph.inputs}
    return [
        {name: array.astype(kind.numpy()) if (kind := types.get(name)) else array for name, array in feed.items()}
        for feed in feeds
    ]


def _measure(graph: ir.Graph, of: ir.DataType) -> list[str]:
    """Replace the graph's outputs by the maximum and the sum of each tensor's absolute values.

    ReduceMax ignores NaN, ReduceSum doesn't.
    """
    values = [*graph.inputs, *(output for node in graph for output in node.outputs)]
    values = [value for value in values if value.name and value.dtype == of and _has_elements(value)]
    graph.outputs.clear()
    for number, value in enumerate(values):
        single = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=f"measure/{number}/cast")
        magnitude = ir.node("Abs", single.outputs, name=f"measure/{number}/abs")
        reduced = [
            ir.node(op_type, magnitude.outputs, {"keepdims": 0}, name=f"measure/{number}/{op_type}")
            for op_type in ("ReduceMax", "ReduceSum")
        ]
        graph.extend([single, magnitude, *reduced])
        for node, kind in zip((single, magnitude, *reduced), ("single", "abs", "largest", "total"), strict=True):
            node.outputs[0].name = f"measure/{number}/{kind}"
        for node in reduced:
            node.outputs[0].type, node.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
            graph.outputs.append(node.outputs[0])
    return [str(value.name) for value in values]


def _has_elements(value: ir.Value) -> bool:
    return isinstance(value.type, ir.TensorType) and (value.shape is None or 0 not in list(value.shape))
