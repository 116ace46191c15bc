"""Writes a quantization into a graph, as QuantizeLinear and DequantizeLinear around what they quantize."""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import MODULE_KEY
from attn_export.exporter.graph.facts import attribute, constant, is_op
from attn_export.exporter.graph.names import names_in, unique_name
from attn_export.exporter.precision.int8.placement import Placement, Read
from attn_export.exporter.precision.int8.ranges import Grid, Range, Weights
from attn_export.exporter.precision.int8.sweep import Sweep
from attn_export.exporter.records.arrays import Array


def quantized(model: ir.Model, placement: Placement, found: Sweep) -> ir.Model:
    """A quantized copy of a model, with the names of the model.

    Weights are stored as int8 with a DequantizeLinear; biases stay float32, with their corrections, but for ONNX
    Runtime's Gemm. Each quantized activation has one QuantizeLinear and one DequantizeLinear, which all of its
    quantized reads share.

    ``found`` is from a sweep for at least this placement.
    """
    copy = model.clone()
    nodes = dict(zip(model.graph, copy.graph, strict=True))
    values = dict(zip(model.graph.inputs, copy.graph.inputs, strict=True))
    for node, other in nodes.items():
        values |= dict(zip(node.outputs, other.outputs, strict=True))
    writer = _Writer(copy.graph, frozenset((nodes[node], index) for node, index in placement.reads))
    for value in found.ranges:
        if value in placement.values:
            writer.quantize(values[value], found.ranges[value])
    for layer in placement.layers:
        writer.store_weights(nodes[layer], found.weights[layer])
        if layer in found.corrections:
            writer.correct_bias(nodes[layer], found.corrections[layer])
        if is_op(layer, "Gemm") and layer.inputs[0] is not None:
            writer.store_bias(nodes[layer], found.ranges[layer.inputs[0]].grid, found.weights[layer])
    writer.drop_unused()
    return copy


class _Writer:
    def __init__(self, graph: ir.Graph, reads: frozenset[Read]) -> None:
        self.graph, self.reads = graph, reads
        self.names = names_in(graph)

    def quantize(self, value: ir.Value, chosen: Range) -> None:
        """Let the quantized reads of a value read it rounded."""
        grid = chosen.grid
        scale = self._constant(f"{value.name}.scale", np.array(grid.scale, np.float32))
        zero = self._constant(f"{value.name}.zero_point", np.array(grid.zero_point, grid.dtype))
        producer = value.producer()
        path = producer.metadata_props.get(MODULE_KEY) if producer is not None else None
        steps = self._node("QuantizeLinear", [value, scale, zero], f"{value.name}.quantized", path)
        back = self._node("DequantizeLinear", [steps.outputs[0], scale, zero], f"{value.name}.dequantized", path)
        steps.outputs[0].shape = back.outputs[0].shape = value.shape
        steps.outputs[0].type, back.outputs[0].type = zero.type, value.type
        for node, index in self.reads:
            if node.inputs[index] is value:
                node.replace_input_with(index, back.outputs[0])
        if producer is None:
            self.graph.insert_before(next(iter(self.graph)), [steps, back])
        else:
            self.graph.insert_after(producer, [steps, back])

    def store_weights(self, layer: ir.Node, weights: Weights) -> None:
        """Let a layer read int8 weights."""
        value = layer.inputs[1]
        assert value is not None
        name = str(value.name)
        integers = self._constant(f"{name}.{weights.integers.dtype}", weights.integers)
        scales = self._constant(f"{name}.scale", weights.scales)
        zeros = self._constant(f"{name}.zero_point", np.zeros(len(weights.scales), weights.integers.dtype))
        path = layer.metadata_props.get(MODULE_KEY)
        back = self._node("DequantizeLinear", [integers, scales, zeros], f"{name}.dequantized", path)
        back.attributes["axis"] = ir.AttrInt64("axis", weights.axis)
        back.outputs[0].shape, back.outputs[0].type = ir.Shape(weights.integers.shape), value.type
        layer.replace_input_with(1, back.outputs[0])
        self.graph.insert_before(layer, back)

    def correct_bias(self, layer: ir.Node, correction: Array) -> None:
        """Add to a layer's bias; one without a bias gets one."""
        bias = constant(layer.inputs[2]) if len(layer.inputs) > 2 else None
        scale = attribute(layer, "beta", 1.0) if layer.op_type == "Gemm" else 1.0
        corrected = (
            correction / np.float32(scale) if bias is None else np.float32(bias) + correction / np.float32(scale)
        )
        value = self._constant(f"{layer.name}.bias", np.asarray(corrected, np.float32))
        if len(layer.inputs) < 3:
            layer.resize_inputs(3)
        layer.replace_input_with(2, value)

    def store_bias(self, layer: ir.Node, grid: Grid, weights: Weights) -> None:
        """For ONNX Runtime: an int32 bias in the steps of the layer's sums, where these can hold it.

        It does this to convolutions itself, and to a Gemm only before a QuantizeLinear; with a float32 bias it computes
        a classifier in floats. TensorRT's form, int8, has no int32 biases.
        """
        bias = constant(layer.inputs[2]) if len(layer.inputs) > 2 else None
        scales = np.float32(grid.scale) * weights.scales
        if bias is None or bias.shape != scales.shape or attribute(layer, "beta", 1.0) != 1:
            return
        if grid.dtype != np.uint8 or np.abs(bias / scales).max() > np.iinfo(np.int32).max // 2:
            return
        integers = self._constant(f"{layer.name}.bias.int32", np.rint(bias / scales).astype(np.int32))
        steps = self._constant(f"{layer.name}.bias.scale", scales)
        path = layer.metadata_props.get(MODULE_KEY)
        back = self._node("DequantizeLinear", [integers, steps], f"{layer.name}.bias", path)
        back.attributes["axis"] = ir.AttrInt64("axis", 0)
        back.outputs[0].shape, back.outputs[0].type = ir.Shape(bias.shape), steps.type
        layer.replace_input_with(2, back.outputs[0])
        self.graph.insert_before(layer, back)

    def drop_unused(self) -> None:
        """Drop the weights that nothing reads any more."""
        for name, value in list(self.graph.initializers.items()):
            if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                del self.graph.initializers[name]

    def _constant(self, name: str, array: Array) -> ir.Value:
        name = unique_name(name, self.names)
        tensor = ir.Tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def _node(self, op_type: str, inputs: list[ir.Value], output: str, path: str | None) -> ir.Node:
        name = unique_name(output, self.names)
        node = ir.node(
            op_type, inputs, outputs=[ir.Value(name=name)], name=unique_name(f"{name}/{op_type}", self.names)
        )
        if path is not None:
            node.metadata_props[MODULE_KEY] = path
        return node
