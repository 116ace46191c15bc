"""A float32 graph to a float16 graph.

Every operator reads one type: a runtime that takes types from the graph (TensorRT calls such a network strongly typed)
accepts no other. Between what computes in float16 and what stays in float32 (`choose`) stands one Cast for each tensor,
whoever reads it.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from attn_export.exporter.artifacts import MODULE_KEY, Kept
from attn_export.exporter.errors import CleanupError
from attn_export.exporter.graph.facts import is_op
from attn_export.exporter.precision.choose import reasons
from attn_export.exporter.precision.operator_types import may_read, may_write, reads_any_type
from attn_export.exporter.precision.rounding import rounded

FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
NAMES = {FLOAT: "fp32", FLOAT16: "fp16"}


def to_float16(model: ir.Model, largest: Mapping[str, float]) -> tuple[Kept, ...]:
    """Let a graph compute in float16, but for what would suffer from it.

    Args:
        model: cleaned, float32; changed in place. Its inputs and outputs stay as they are, their types too.
        largest: for each tensor the largest absolute value that was seen, see `ranges.largest_values`.

    Returns:
        The nodes that stay in float32, in order. None where the graph was in float16 before, which changes nothing.

    Raises:
        CleanupError: a node has a body (If, Loop), or what a node computes has no known type.
    """
    _refuse_bodies(model)
    infer_types(model)
    if is_float16(model.graph):
        return ()
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    if (value := _untyped(model.graph)) is not None:
        raise CleanupError(
            f"the type of {value.name} isn't known", step="float16", hint="onnx.shape_inference can't tell it either."
        )
    found = reasons(model.graph, largest)
    _Conversion(model.graph, set(found)).run()
    return tuple(
        Kept(node.name or "", node.metadata_props.get(MODULE_KEY, ""), node.op_type, reason)
        for node, reason in found.items()
    )


def _refuse_bodies(model: ir.Model) -> None:
    bodies = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    for node in model.graph:
        if any(attribute.type in bodies for attribute in node.attributes.values()):
            raise CleanupError(
                f"{node.op_type} {node.name} has a body, and bodies can't be changed to float16",
                step="float16",
                hint="Export the network without control flow, or leave it in float32.",
            )
    if model.functions:
        raise CleanupError("the graph calls functions of its own", step="float16", hint="Clean it first.")


def is_float16(graph: ir.Graph) -> bool:
    """Whether most of what has weights computes in float16; without any such node, whether most of all nodes do."""
    weighted = [node for node in graph if is_op(node, *WEIGHTED)]
    types = [node.outputs[0].dtype for node in weighted or graph]
    return types.count(FLOAT16) > types.count(FLOAT)


def infer_types(model: ir.Model) -> None:
    """Let onnx tell the types of what is computed, where the file doesn't."""
    if _untyped(model.graph) is not None:
        common.ShapeInferencePass(check_type=False, strict_mode=False)(model)


def _untyped(graph: ir.Graph) -> ir.Value | None:
    values = (value for node in graph for value in node.outputs if value.name)
    return next((value for value in values if value.type is None), None)


class _Conversion:
    """One graph on its way."""

    def __init__(self, graph: ir.Graph, kept: set[ir.Node]) -> None:
        self.graph = graph
        self.kept = kept
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        values = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
        self.names = {str(value.name) for value in values} | {str(node.name) for node in graph}

    def run(self) -> None:
        """Types first, then outputs, then whatever is read in another type than it has."""
        nodes = list(self.graph)
        reads = [
            (node, index, type_)
            for node in nodes
            for index, value in enumerate(node.inputs)
            if value is not None and value.dtype == FLOAT and (type_ := self._wanted(node, index)) is not None
        ]
        retyped = {value for node in nodes for value in self._retype(node)}
        self._cast_outputs(retyped)
        for node, index, type_ in reads:
            value = node.inputs[index]
            if value is not None and value.dtype != type_:
                is_weight = value.is_initializer() and not value.is_graph_input()
                made = self._weight(value) if is_weight else self._cast(value, type_, node)
                node.replace_input_with(index, made)
        for node in nodes:
            self._drop_if_idle(node)

    def _wanted(self, node: ir.Node, index: int) -> ir.DataType | None:
        """The type in which the node reads a float32 input; None if it takes what comes."""
        if reads_any_type(node, index):
            return None
        return FLOAT if node in self.kept or not may_read(node, index) else FLOAT16

    def _retype(self, node: ir.Node) -> list[ir.Value]:
        """The outputs that are float16 from now on."""
        # A Cast that makes an output of the graph is the one that this output needs.
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
        """Give name and type of every output that is now float16 to a Cast of it."""
        for index, value in enumerate(self.graph.outputs):
            producer = value.producer()
            if value not in retyped or producer is None:
                continue
            if (value, FLOAT) not in self.casts:
                name = str(value.name)
                value.name = self._unused(f"{name}.{NAMES[FLOAT16]}")
                self.casts[value, FLOAT] = self._add_cast(value, FLOAT, producer, name)
            self.graph.outputs[index] = self.casts[value, FLOAT]

    def _weight(self, value: ir.Value) -> ir.Value:
        """A weight in float16: itself, or a copy where something else reads it in float32."""
        assert value.const_value is not None
        others = any(self._wanted(node, index) != FLOAT16 for node, index in value.uses())
        if not others and not value.is_graph_output():
            value.const_value = ir.Tensor(rounded(value.const_value.numpy()), name=value.name)
            value.type = ir.TensorType(FLOAT16)
            return value
        if (value, FLOAT16) not in self.casts:
            name = self._unused(f"{value.name}.{NAMES[FLOAT16]}")
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
        """The value in another type, the same for all who read it so."""
        producer = value.producer()
        if (value, type_) not in self.casts:
            source = value
            if producer is not None and is_op(producer, "Cast") and producer.inputs[0] is not None:
                source = producer.inputs[0]  # one Cast from where it came, instead of two in a row
            served = producer if producer is not None and type_ == FLOAT16 else reader
            made = source if source.dtype == type_ else self._add_cast(source, type_, served)
            self.casts[value, type_] = made
        return self.casts[value, type_]

    def _add_cast(self, source: ir.Value, type_: ir.DataType, served: ir.Node, name: str = "") -> ir.Value:
        """A Cast right behind what makes ``source``, with the module path of the node that it is there for."""
        to = NAMES[type_]
        base = name or str(source.name)
        output = ir.Value(
            name=name or self._unused(f"{base}.{to}"),
            shape=None if source.shape is None else ir.Shape(source.shape),
            type=ir.TensorType(type_),
        )
        path = served.metadata_props.get(MODULE_KEY)
        cast = ir.node(
            "Cast",
            [source],
            {"to": int(type_)},
            outputs=[output],
            name=self._unused(f"{base}/to_{to}"),
            metadata_props={} if path is None else {MODULE_KEY: path},
        )
        producer = source.producer()
        if producer is None:
            self.graph.insert_before(next(iter(self.graph)), cast)
        else:
            self.graph.insert_after(producer, cast)
        return output

    def _drop_if_idle(self, node: ir.Node) -> None:
        """Drop a Cast of the former graph that changes nothing any more."""
        source, output = node.inputs[0] if node.inputs else None, node.outputs[0]
        if not is_op(node, "Cast") or source is None or output.is_graph_output():
            return
        if source.dtype == output.dtype or not output.uses():
            ir.convenience.replace_all_uses_with(output, source)
            self.graph.remove(node, safe=True)

    def _unused(self, name: str) -> str:
        """The name, with a number where it is taken."""
        found, count = name, 1
        while found in self.names:
            count += 1
            found = f"{name}_{count}"
        self.names.add(found)
        return found
