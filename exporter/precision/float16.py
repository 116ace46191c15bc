"""Converts a float32 graph to float16.

The result is strongly typed, as TensorRT requires: all inputs of an operator have one type. One Cast for each tensor
connects float16 nodes with those that stay in float32 (`choose`).
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from attn_export.exporter.artifacts import MODULE_KEY, Float32Node
from attn_export.exporter.errors import CleanupError
from attn_export.exporter.graph.facts import is_op
from attn_export.exporter.graph.names import names_in, unique_name
from attn_export.exporter.precision.choose import float32_nodes
from attn_export.exporter.precision.operator_types import may_read, may_write, reads_any_type
from attn_export.exporter.precision.rounding import rounded

FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SUFFIXES = {FLOAT: "fp32", FLOAT16: "fp16"}


def to_float16(model: ir.Model, largest: Mapping[str, float]) -> tuple[Float32Node, ...]:
    """Convert a graph to float16, except for nodes that would lose accuracy.

    Args:
        model: cleaned, float32; changed in place. Its inputs and outputs stay float32.
        largest: tensor -> largest absolute value, see `ranges.largest_values`.

    Returns:
        The nodes that stay in float32, in order; empty if the graph already is float16.

    Raises:
        CleanupError: a node has a subgraph (If, Loop), or the type of a tensor is unknown.
    """
    _refuse_subgraphs(model)
    infer_types(model)
    if is_float16(model.graph):
        return ()
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    if (value := _untyped(model.graph)) is not None:
        raise CleanupError(
            f"the type of {value.name} is unknown", step="float16", hint="onnx.shape_inference can't infer it either."
        )
    found = float32_nodes(model.graph, largest)
    _Conversion(model.graph, set(found)).run()
    return tuple(
        Float32Node(node.name or "", node.metadata_props.get(MODULE_KEY, ""), node.op_type, reason)
        for node, reason in found.items()
    )


def _refuse_subgraphs(model: ir.Model) -> None:
    bodies = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    for node in model.graph:
        if any(attribute.type in bodies for attribute in node.attributes.values()):
            raise CleanupError(
                f"{node.op_type} {node.name} has a subgraph, which can't be converted to float16",
                step="float16",
                hint="Export the network without control flow, or leave it in float32.",
            )
    if model.functions:
        raise CleanupError("the graph calls local functions", step="float16", hint="Clean the file first.")


def is_float16(graph: ir.Graph) -> bool:
    """Whether most layers compute in float16; in a graph without layers, most nodes."""
    layers = [node for node in graph if is_op(node, *LAYERS)]
    types = [node.outputs[0].dtype for node in layers or graph]
    return types.count(FLOAT16) > types.count(FLOAT)


def infer_types(model: ir.Model) -> None:
    """Infer the types that the file lacks."""
    if _untyped(model.graph) is not None:
        common.ShapeInferencePass(check_type=False, strict_mode=False)(model)


def _untyped(graph: ir.Graph) -> ir.Value | None:
    values = (value for node in graph for value in node.outputs if value.name)
    return next((value for value in values if value.type is None), None)


class _Conversion:
    def __init__(self, graph: ir.Graph, kept: set[ir.Node]) -> None:
        self.graph = graph
        self.kept = kept
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.names = names_in(graph)

    def run(self) -> None:
        """Change types, then outputs, then inputs of another type."""
        nodes = list(self.graph)
        reads = [
            (node, index, type_)
            for node in nodes
            for index, value in enumerate(node.inputs)
            if value is not None and value.dtype == FLOAT and (type_ := self._required(node, index)) is not None
        ]
        retyped = {value for node in nodes for value in self._retype(node)}
        self._cast_outputs(retyped)
        for node, index, type_ in reads:
            value = node.inputs[index]
            if value is not None and value.dtype != type_:
                is_weight = value.is_initializer() and not value.is_graph_input()
                converted = self._weight(value) if is_weight else self._cast(value, type_, node)
                node.replace_input_with(index, converted)
        for node in nodes:
            self._drop_idle_cast(node)

    def _required(self, node: ir.Node, index: int) -> ir.DataType | None:
        """The type that the node needs for a float32 input; None if any will do."""
        if reads_any_type(node, index):
            return None
        return FLOAT if node in self.kept or not may_read(node, index) else FLOAT16

    def _retype(self, node: ir.Node) -> list[ir.Value]:
        """Make the node's outputs float16; returns them."""
        # A Cast at a graph output already has the right type.
        if node in self.kept or (is_op(node, "Cast") and node.outputs[0].is_graph_output()):
            return []
        changed = [v for i, v in enumerate(node.outputs) if v.dtype == FLOAT and may_write(node, i)]
        for output in changed:
            output.type = ir.TensorType(FLOAT16)
        if changed and is_op(node, "Cast"):
            node.attributes["to"] = ir.AttrInt64("to", int(FLOAT16))
        elif changed and is_op(node, "ConstantOfShape"):
            filled = node.attributes.get("value")
            array = np.zeros(1, np.float32) if filled is None else filled.as_tensor().numpy()
            node.attributes["value"] = ir.AttrTensor("value", ir.Tensor(rounded(array)))
        return changed

    def _cast_outputs(self, retyped: set[ir.Value]) -> None:
        """Append a Cast to each float16 output; it takes over the output's name."""
        for index, value in enumerate(self.graph.outputs):
            producer = value.producer()
            if value not in retyped or producer is None:
                continue
            if (value, FLOAT) not in self.casts:
                name = str(value.name)
                value.name = unique_name(f"{name}.{SUFFIXES[FLOAT16]}", self.names)
                self.casts[value, FLOAT] = self._add_cast(value, FLOAT, producer, name)
            self.graph.outputs[index] = self.casts[value, FLOAT]

    def _weight(self, value: ir.Value) -> ir.Value:
        """A weight in float16; a copy if other nodes read it in float32."""
        assert value.const_value is not None
        others = any(self._required(node, index) != FLOAT16 for node, index in value.uses())
        if not others and not value.is_graph_output():
            value.const_value = ir.Tensor(rounded(value.const_value.numpy()), name=value.name)
            value.type = ir.TensorType(FLOAT16)
            return value
        if (value, FLOAT16) not in self.casts:
            name = unique_name(f"{value.name}.{SUFFIXES[FLOAT16]}", self.names)
            copy = ir.Value(
                name=name,
                shape=value.shape,
                type=ir.TensorType(FLOAT16),
                const_value=ir.Tensor(rounded(value.const_value.numpy()), name=name),
            )
            self.graph.register_initializer(copy)
            self.casts[value, FLOAT16] = copy
        return self.casts[value, FLOAT16]

    def _cast(self, value: ir.Value, type_: ir.DataType, reader: ir.Node) -> ir.Value:
        """The value in another type, shared by all its readers."""
        producer = value.producer()
        if (value, type_) not in self.casts:
            source = value
            if producer is not None and is_op(producer, "Cast") and producer.inputs[0] is not None:
                source = producer.inputs[0]  # avoids two Casts in a row
            served = producer if producer is not None and type_ == FLOAT16 else reader
            cast = source if source.dtype == type_ else self._add_cast(source, type_, served)
            self.casts[value, type_] = cast
        return self.casts[value, type_]

    def _add_cast(self, source: ir.Value, type_: ir.DataType, served: ir.Node, name: str = "") -> ir.Value:
        """A Cast after the producer of ``source``, with the module path of ``served``."""
        to = SUFFIXES[type_]
        base = name or str(source.name)
        output = ir.Value(
            name=name or unique_name(f"{base}.{to}", self.names),
            shape=None if source.shape is None else ir.Shape(source.shape),
            type=ir.TensorType(type_),
        )
        path = served.metadata_props.get(MODULE_KEY)
        cast = ir.node(
            "Cast",
            [source],
            {"to": int(type_)},
            outputs=[output],
            name=unique_name(f"{base}/to_{to}", self.names),
            metadata_props={} if path is None else {MODULE_KEY: path},
        )
        producer = source.producer()
        if producer is None:
            self.graph.insert_before(next(iter(self.graph)), cast)
        else:
            self.graph.insert_after(producer, cast)
        return output

    def _drop_idle_cast(self, node: ir.Node) -> None:
        """Drop a Cast of the original graph that has no effect any more."""
        source, output = node.inputs[0] if node.inputs else None, node.outputs[0]
        if not is_op(node, "Cast") or source is None or output.is_graph_output():
            return
        if source.dtype == output.dtype or not output.uses():
            ir.convenience.replace_all_uses_with(output, source)
            self.graph.remove(node, safe=True)
