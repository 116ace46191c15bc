"""Converts a float32 graph to float16 or bfloat16.

The result is strongly typed, as TensorRT requires: all inputs of an operator have one type. One Cast for each tensor
connects their nodes with those that stay in float32 (`choose`).
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from attn_export.exporter.artifacts import MODULE_KEY, Float32Node
from attn_export.exporter.errors import CleanupError
from attn_export.exporter.graph.facts import is_op
from attn_export.exporter.graph.names import names_in, unique_name
from attn_export.exporter.graph.shapes import infer_shapes
from attn_export.exporter.precision.choose import float32_nodes
from attn_export.exporter.precision.operator_types import may_read, may_write, reads_any_type
from attn_export.exporter.precision.rounding import HalfType

FLOAT = ir.DataType.FLOAT
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
SUFFIXES = {FLOAT: "fp32", ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16"}


def to_half(model: ir.Model, largest: Mapping[str, float], kind: HalfType) -> tuple[Float32Node, ...]:
    """Convert a graph to a type of 16 bits, except for nodes that would lose accuracy.

    The model is cleaned float32, and changed in place; its inputs and outputs stay float32. ``largest`` is that of
    `ranges.largest_values`.

    Returns:
        The nodes that stay in float32, in order; empty if the graph has the type already.

    Raises:
        CleanupError: a node has a subgraph (If, Loop), or the type of a tensor is unknown.
    """
    _refuse_subgraphs(model, kind)
    infer_types(model)
    if float_type(model.graph) is kind.dtype:
        return ()
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    if (value := _untyped(model.graph)) is not None:
        raise CleanupError(f"the type of {value.name} is unknown", hint="onnx.shape_inference can't infer it either.")
    found = float32_nodes(model.graph, largest, kind)
    _Conversion(model.graph, set(found), kind).run()
    return tuple(
        Float32Node(node.name or "", node.metadata_props.get(MODULE_KEY, ""), node.op_type, reason)
        for node, reason in found.items()
    )


def _refuse_subgraphs(model: ir.Model, kind: HalfType) -> None:
    bodies = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    for node in model.graph:
        if any(attribute.type in bodies for attribute in node.attributes.values()):
            raise CleanupError(
                f"{node.op_type} {node.name} has a subgraph, which can't be converted to {kind}",
                hint="Export the network without control flow, or leave it in float32.",
            )
    if model.functions:
        raise CleanupError("the graph calls local functions", hint="Clean the file first.")


def float_type(graph: ir.Graph) -> ir.DataType:
    """The type in which most layers compute; in a graph without layers, most nodes. float32 in doubt."""
    layers = [node for node in graph if is_op(node, *LAYERS)]
    types = [node.outputs[0].dtype for node in layers or graph]
    return max(SUFFIXES, key=types.count)


def infer_types(model: ir.Model) -> None:
    """Infer the types that the file lacks."""
    if _untyped(model.graph) is not None:
        infer_shapes(model)


def _untyped(graph: ir.Graph) -> ir.Value | None:
    values = (value for node in graph for value in node.outputs if value.name)
    return next((value for value in values if value.type is None), None)


class _Conversion:
    def __init__(self, graph: ir.Graph, kept: set[ir.Node], kind: HalfType) -> None:
        self.graph = graph
        self.kept = kept
        self.kind = kind
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
        return FLOAT if node in self.kept or not may_read(node, index, self.kind) else self.kind.dtype

    def _retype(self, node: ir.Node) -> list[ir.Value]:
        """Give the node's outputs the type; returns them."""
        # A Cast at a graph output already has the right type.
        if node in self.kept or (is_op(node, "Cast") and node.outputs[0].is_graph_output()):
            return []
        changed = [v for i, v in enumerate(node.outputs) if v.dtype == FLOAT and may_write(node, i, self.kind)]
        for output in changed:
            output.type = ir.TensorType(self.kind.dtype)
        if changed and is_op(node, "Cast"):
            node.attributes["to"] = ir.AttrInt64("to", int(self.kind.dtype))
        elif changed and is_op(node, "ConstantOfShape"):
            filled = node.attributes.get("value")
            array = np.zeros(1, np.float32) if filled is None else filled.as_tensor().numpy()
            node.attributes["value"] = ir.AttrTensor("value", ir.Tensor(self.kind.rounded(array)))
        return changed

    def _cast_outputs(self, retyped: set[ir.Value]) -> None:
        """Append a Cast to each converted output; it takes over the output's name."""
        for index, value in enumerate(self.graph.outputs):
            producer = value.producer()
            if value not in retyped or producer is None:
                continue
            if (value, FLOAT) not in self.casts:
                name = str(value.name)
                value.name = unique_name(f"{name}.{self.kind.precision}", self.names)
                self.casts[value, FLOAT] = self._add_cast(value, FLOAT, producer, name)
            self.graph.outputs[index] = self.casts[value, FLOAT]

    def _weight(self, value: ir.Value) -> ir.Value:
        """A weight in the type; a copy if other nodes read it in float32."""
        assert value.const_value is not None
        others = any(self._required(node, index) != self.kind.dtype for node, index in value.uses())
        if not others and not value.is_graph_output():
            value.const_value = ir.Tensor(self.kind.rounded(value.const_value.numpy()), name=value.name)
            value.type = ir.TensorType(self.kind.dtype)
            return value
        if (value, self.kind.dtype) not in self.casts:
            name = unique_name(f"{value.name}.{self.kind.precision}", self.names)
            copy = ir.Value(
                name=name,
                shape=value.shape,
                type=ir.TensorType(self.kind.dtype),
                const_value=ir.Tensor(self.kind.rounded(value.const_value.numpy()), name=name),
            )
            self.graph.register_initializer(copy)
            self.casts[value, self.kind.dtype] = copy
        return self.casts[value, self.kind.dtype]

    def _cast(self, value: ir.Value, type_: ir.DataType, reader: ir.Node) -> ir.Value:
        """The value in another type, shared by all its readers."""
        producer = value.producer()
        if (value, type_) not in self.casts:
            source = value
            if producer is not None and is_op(producer, "Cast") and producer.inputs[0] is not None:
                source = producer.inputs[0]  # avoids two Casts in a row
            served = producer if producer is not None and type_ == self.kind.dtype else reader
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
