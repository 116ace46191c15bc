"""A quantized graph without its rounding: what its layers, weights and wiring compute as floats.

QuantizeLinear and DequantizeLinear of computed tensors are left out, and integer operators become float ones. Quantized
weights stay what they are. A quantizer removes a ReLU or Clip before a QuantizeLinear whose range does the same; so it
has to be put back, and only the range tells where.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from attn_export.exporter.errors import InputError
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.runtimes.quantized_operators import constants_of

Bounds = tuple[float, float]
RELU: Bounds = (0.0, math.inf)
# Upper ends of activations that are Clips: ReLU6, and the hard sigmoid.
CAPS = (6.0, 1.0)
TOLERANCE = 1e-3
INTEGER = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}


@dataclass(frozen=True)
class Quantizer:
    """The scale and zero point of a QuantizeLinear or DequantizeLinear.

    Attributes:
        scale: a number, or one for each channel.
        zero: likewise, of the quantized type.
    """

    scale: Any
    zero: Any

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Quantizer):
            return NotImplemented
        return np.array_equal(self.scale, other.scale) and np.array_equal(self.zero, other.zero)

    __hash__ = None  # type: ignore[assignment]

    def bounds(self) -> tuple[Bounds | None, ...]:
        """The activations that this range may stand for, the likeliest first; None for no activation."""
        if np.size(self.scale) > 1 or self.zero.dtype.kind not in "iu":
            return (None,)
        scale, zero = float(np.reshape(self.scale, ())), int(np.reshape(self.zero, ()))
        limits = np.iinfo(self.zero.dtype)
        if zero != limits.min:  # a range that was empty in the calibration is stored as a scale of 1
            return (None, RELU) if (scale, zero) == (1.0, 0) else (None,)
        high = scale * (int(limits.max) - zero)
        caps = [cap for cap in CAPS if high <= cap * (1 + TOLERANCE)]
        reached = [(0.0, cap) for cap in caps if high >= cap * (1 - TOLERANCE)]
        return (*reached, RELU, *((0.0, cap) for cap in caps if (0.0, cap) not in reached), None)


def activations(model: ModelProto) -> dict[str, tuple[Bounds | None, ...]]:
    """The tensors whose QuantizeLinear may stand for an activation too, with the possible ones."""
    constants = constants_of(model.graph)
    found = {}
    for node in model.graph.node:
        quantizer = _quantizer(node, constants) if node.op_type == "QuantizeLinear" else None
        if quantizer is not None and node.input[0] not in constants and len(bounds := quantizer.bounds()) > 1:
            found[str(node.output[0])] = bounds
    return found


def _quantizer(node: NodeProto, constants: Mapping[str, Any]) -> Quantizer | None:
    names = node.input[1:3]
    if any(name and name not in constants for name in names):
        return None
    zero = constants[names[1]] if len(names) > 1 and names[1] else np.uint8(0)
    return Quantizer(constants[names[0]], np.asarray(zero))


def without_rounding(
    model: ModelProto, chosen: Mapping[str, Bounds | None], draw: np.random.Generator | None = None
) -> ModelProto:
    """A graph of floats only, of a model from `load_in_pairs`.

    ``chosen`` is the activation to put back for each tensor of `activations`. ``draw`` moves each weight by up to half
    a quantization step, as another rounding of the same weights might.

    Raises:
        InputError: a quantized tensor goes through an operator that isn't known.
    """
    return _Floats(model, chosen, draw).model()


@dataclass
class _Floats:
    source: ModelProto
    chosen: Mapping[str, Bounds | None]
    draw: np.random.Generator | None
    nodes: list[NodeProto] = field(default_factory=list)
    added: dict[str, Array] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # quantized tensor -> the float one
    quantizers: dict[str, Quantizer] = field(default_factory=dict)  # of the tensors that are left out

    def model(self) -> ModelProto:
        model = ModelProto()
        model.CopyFrom(self.source)
        graph = model.graph
        self.constants = constants_of(graph)
        for node in graph.node:
            {
                "QuantizeLinear": self._quantize,
                "DynamicQuantizeLinear": self._quantize_dynamically,
                "DequantizeLinear": self._dequantize,
                **dict.fromkeys(INTEGER, self._compute),
            }.get(node.op_type, self._keep)(node)
        for value in graph.output:
            if self.names.get(value.name, value.name) != value.name:
                self.nodes.append(helper.make_node("Identity", [self.names[value.name]], [value.name]))
        del graph.node[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in self.added.items())
        return model

    def _keep(self, node: NodeProto) -> None:
        kept = NodeProto()
        kept.CopyFrom(node)
        kept.input[:] = [self.names.get(name, name) for name in node.input]
        self.nodes.append(kept)
        for name in node.input[:1]:  # of whole numbers: a pool, a reshape, a transposition
            if name in self.quantizers:
                self.quantizers.update(dict.fromkeys(node.output, self.quantizers[name]))

    def _quantize(self, node: NodeProto) -> None:
        source, made = self.names.get(node.input[0], node.input[0]), node.output[0]
        quantizer = _quantizer(node, self.constants)
        if quantizer is not None:
            self.quantizers[made] = quantizer
        bounds = self.chosen.get(made)
        if bounds is None:
            self.names[made] = source
            return
        if bounds == RELU:
            self.nodes.append(helper.make_node("Relu", [source], [made]))
        else:
            ends = [self._add(f"{made}/bound{i}", np.float32(end)) for i, end in enumerate(bounds)]
            self.nodes.append(helper.make_node("Clip", [source, *ends], [made]))

    def _quantize_dynamically(self, node: NodeProto) -> None:
        made, scale, zero = node.output
        self.names[made] = self.names.get(node.input[0], node.input[0])
        self._add(scale, np.float32(1))
        self._add(zero, np.float32(0))

    def _dequantize(self, node: NodeProto) -> None:
        source, made = node.input[0], node.output[0]
        if source in self.constants:
            self._add(made, self._weight(self.constants[source], node))
            return
        before, after = self.quantizers.get(source), _quantizer(node, self.constants)
        if before is None or after is None:
            raise InputError(f"the scale of {source} isn't a constant")
        self.names[made] = self.names.get(source, source)
        if before != after:
            factor = np.asarray(after.scale / before.scale, np.float32)
            shift = np.asarray((before.zero.astype(np.float64) - after.zero) * after.scale, np.float32)
            scaled = self._add(f"{made}/factor", factor)
            moved = self._add(f"{made}/shift", shift)
            self.nodes.append(helper.make_node("Mul", [self.names.pop(made), scaled], [f"{made}/scaled"]))
            self.nodes.append(helper.make_node("Add", [f"{made}/scaled", moved], [made]))

    def _compute(self, node: NodeProto) -> None:
        """An integer operator whose input was quantized dynamically, so that its scale is 1 here."""
        weight = self.constants.get(node.input[1])
        if weight is None or node.input[0] not in self.names:
            raise InputError(f"{node.op_type} of computed weights")
        zero = self.constants.get(node.input[3], 0) if len(node.input) > 3 else 0
        axes = (-1, *[1] * (weight.ndim - 1)) if np.size(zero) > 1 and node.op_type == "ConvInteger" else np.shape(zero)
        moved = self._moved(weight.astype(np.float64), 1.0) - np.reshape(zero, axes)
        kept = NodeProto()
        kept.CopyFrom(node)
        kept.op_type = INTEGER[node.op_type]
        kept.input[:] = [self.names[node.input[0]], self._add(f"{node.output[0]}/weight", moved.astype(np.float32))]
        self.nodes.append(kept)

    def _weight(self, stored: Any, node: NodeProto) -> Any:
        """The weight that a DequantizeLinear makes."""
        scale, zero = self.constants[node.input[1]], [self.constants[name] for name in node.input[2:3] if name]
        options = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        axis, block = options.get("axis", 1), options.get("block_size", 0)
        values, shape = self._moved(stored.astype(np.float64), _step(stored)), stored.shape
        shift = _spread(zero[0].astype(np.float64), shape, axis, block) if zero else 0.0
        return ((values - shift) * _spread(scale.astype(np.float64), shape, axis, block)).astype(scale.dtype)

    def _moved(self, values: Any, step: Any) -> Any:
        return values if self.draw is None else values + self.draw.uniform(-0.5, 0.5, values.shape) * step

    def _add(self, name: str, array: Any) -> str:
        self.added[name] = np.asarray(array)
        return name


def _spread(parameter: Any, shape: tuple[int, ...], axis: int, block: int) -> Any:
    """The scale or zero point of each element: one number, one for each place on an axis, or one for each block there.

    https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
    """
    if parameter.size == 1:
        return parameter.reshape(())
    if block:
        return np.repeat(parameter, block, axis)[tuple(slice(size) for size in shape)]
    return parameter.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])


def _step(stored: Any) -> Any:
    """The distance of stored numbers from the next: 1 for integers."""
    if not stored.dtype.name.startswith("float"):
        return 1.0
    limits = ml_dtypes.finfo(stored.dtype)  # type: ignore[no-untyped-call]
    magnitude = np.maximum(np.abs(stored.astype(np.float64)), float(limits.smallest_normal))
    return np.exp2(np.floor(np.log2(magnitude))) * float(limits.eps)
