"""Gives a converted graph inputs and outputs of its own type, without Casts at its ends."""

import onnx_ir as ir

from attn_export.exporter.graph.facts import is_op
from attn_export.exporter.graph.names import names_in, unique_name
from attn_export.exporter.precision.half import FLOAT
from attn_export.exporter.precision.operator_types import reads_any_type
from attn_export.exporter.precision.rounding import HalfType


def make_native(graph: ir.Graph, kind: HalfType) -> None:
    """Change the types of float32 inputs and outputs, in place; their names stay.

    A node that stays in float32 reads an input, or computes an output, through a Cast.
    """
    names = names_in(graph)
    for value in graph.inputs:
        if value.dtype is FLOAT and value.const_value is None:
            _narrow_input(graph, value, kind, names)
    made: dict[ir.Value, ir.Value] = {}
    for index, value in enumerate(graph.outputs):
        if value.dtype is FLOAT and value not in made:
            made[value] = _narrow_output(graph, value, kind, names)
        graph.outputs[index] = made.get(value, value)


def _narrow_input(graph: ir.Graph, value: ir.Value, kind: HalfType, names: set[str]) -> None:
    uses, wide = list(value.uses()), None
    value.type = ir.TensorType(kind.dtype)
    for node, index in uses:
        if is_op(node, "Cast") and node.outputs[0].dtype is kind.dtype and not node.outputs[0].is_graph_output():
            ir.convenience.replace_all_uses_with(node.outputs[0], value)
            graph.remove(node, safe=True)
        elif not reads_any_type(node, index):
            if wide is None:
                cast = _cast(value, FLOAT, unique_name(f"{value.name}.fp32", names), names)
                graph.insert_before(next(iter(graph)), cast)
                wide = cast.outputs[0]
            node.replace_input_with(index, wide)


def _narrow_output(graph: ir.Graph, value: ir.Value, kind: HalfType, names: set[str]) -> ir.Value:
    name, cast = str(value.name), value.producer()
    source = cast.inputs[0] if cast is not None and is_op(cast, "Cast") else None
    inner = source is not None and not source.is_graph_input() and not source.is_graph_output()
    if cast is not None and source is not None and inner and source.dtype is kind.dtype and not value.uses():
        index = next(i for i, output in enumerate(graph.outputs) if output is value)
        graph.outputs[index] = source
        graph.remove(cast, safe=True)
        source.name = name
        return source
    value.name = unique_name(f"{name}.fp32", names)
    narrow = _cast(value, kind.dtype, name, names)
    graph.append(narrow)
    return narrow.outputs[0]


def _cast(source: ir.Value, to: ir.DataType, output: str, names: set[str]) -> ir.Node:
    value = ir.Value(name=output, shape=source.shape, type=ir.TensorType(to))
    return ir.node("Cast", [source], {"to": int(to)}, outputs=[value], name=unique_name(f"{output}/to_{to}", names))
