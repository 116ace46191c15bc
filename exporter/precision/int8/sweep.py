"""Runs a graph node by node on all calibration images, in float32 and as it will be quantized.

One sweep in topological order does everything: when a tensor is computed, its values on all images are there to choose
its range from; when a layer is computed, the mean difference of its two outputs is the correction of its bias. Each
correction sees the errors and the corrections of all layers before it, which "full" bias correction does by running the
network once for each layer (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
https://arxiv.org/abs/1906.04721, section 4.2, and NNCF's BiasCorrection).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import MODULE_KEY
from attn_export.exporter.errors import InputError
from attn_export.exporter.graph.facts import attribute, constant, is_op, users
from attn_export.exporter.graph.session import PlainSession
from attn_export.exporter.precision.int8.adaround import by_adaround
from attn_export.exporter.precision.int8.placement import SELECTING, Placement, weight_axis
from attn_export.exporter.precision.int8.quality import decibels, scores
from attn_export.exporter.precision.int8.ranges import Method, Range, Weights, choose, quantized_weights
from attn_export.exporter.precision.int8.rounding import Rounding, by_descent, moments
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.system.progress import Advance

Chunks = list[Array]  # one tensor on all images, in the batches in which they run


@dataclass(frozen=True)
class Recipe:
    """How a placement is quantized.

    Attributes:
        symmetric: int8 activations with zero point 0 instead of uint8.
        correct: the biases too.
    """

    method: Method
    symmetric: bool
    correct: bool = False
    rounding: Rounding = Rounding.NEAREST


@dataclass
class Sweep:
    """What a sweep found.

    Attributes:
        ranges: of each quantized activation.
        weights: of each layer, in int8.
        corrections: of each layer's bias, (channels,) float32; empty without bias correction.
        sqnr: of each quantized activation's rounding alone, and of each layer's output before its correction, in dB.
        relative: the root mean square of a correction relative to that of the layer's output.
        peaks: the largest magnitude of each channel of each quantized map, (channels,).
        scores: (float32, quantized), by output, for each batch.
    """

    ranges: dict[ir.Value, Range] = field(default_factory=dict)
    weights: dict[ir.Node, Weights] = field(default_factory=dict)
    corrections: dict[ir.Node, Array] = field(default_factory=dict)
    sqnr: dict[ir.Value | ir.Node, float | None] = field(default_factory=dict)
    relative: dict[ir.Node, float] = field(default_factory=dict)
    peaks: dict[ir.Value, Array] = field(default_factory=dict)
    scores: tuple[dict[str, Chunks], dict[str, Chunks]] = field(default_factory=lambda: ({}, {}))


def sweep(
    model: ir.Model,
    placement: Placement,
    feeds: Sequence[Mapping[str, Array]],
    recipe: Recipe,
    *,
    threads: int,
    advance: Advance = lambda _: None,
) -> Sweep:
    """Choose ranges, round weights and correct biases.

    The model is cleaned float32, without subgraphs, its types known; it isn't changed. A batch of feeds has the
    inputs by name.

    Raises:
        InputError: a value is NaN or infinite; the first node that computes one is named.
        SessionError: ONNX Runtime can't run a node.
    """
    return _Sweeper(model, placement, recipe, threads).run(feeds, advance)


class _Sweeper:
    def __init__(self, model: ir.Model, placement: Placement, recipe: Recipe, threads: int) -> None:
        self.model, self.placement, self.recipe, self.threads = model, placement, recipe, threads
        self.quantized = placement.values
        self.result = Sweep()
        self.exact: dict[ir.Value, Chunks] = {}
        self.rough: dict[ir.Value, Chunks] = {}
        self.stepped: dict[ir.Value, Chunks] = {}  # `rough` behind QuantizeLinear and DequantizeLinear

    def run(self, feeds: Sequence[Mapping[str, Array]], advance: Advance) -> Sweep:
        graph = self.model.graph
        last = Counter(value for node in graph for value in set(node.inputs) if value is not None)
        judged = scores(graph)
        last.update(judged.values())
        for value in graph.inputs:
            if value.const_value is None:
                images = [feed[str(value.name)] for feed in feeds]
                self._keep(value, images, images)
        for number, node in enumerate(graph):
            self._compute(node)
            last.subtract(read := {value for value in node.inputs if value is not None})
            for value in (*read, *node.outputs):
                if not last[value]:
                    self._forget(value)
            advance((number + 1) / len(graph))
        for name, value in judged.items():
            self.result.scores[0][name] = self.exact[value]
            self.result.scores[1][name] = self.rough[value]
        return self.result

    def _keep(self, value: ir.Value, exact: Chunks, rough: Chunks) -> None:
        """Keep a tensor's values; one that is quantized gets its range now."""
        _refuse_not_finite(value, exact)
        self.exact[value], self.rough[value] = exact, rough
        if value in self.quantized:
            chosen = self._range_of_source(value) or choose(
                str(value.name), _told_apart(value, exact), self.recipe.method, symmetric=self.recipe.symmetric
            )
            self.result.ranges[value] = chosen
            self.stepped[value] = [chosen.grid.rounded(chunk) for chunk in rough]
            if exact[0].ndim > 2:
                others = (0, *range(2, exact[0].ndim))
                self.result.peaks[value] = np.max([np.abs(chunk).max(axis=others) for chunk in exact], axis=0)
            self.result.sqnr[value] = decibels(exact, [chosen.grid.rounded(chunk) for chunk in exact])

    def _range_of_source(self, value: ir.Value) -> Range | None:
        """The range of the quantized tensor that a value takes its elements from, so that it loses nothing more."""
        node = value.producer()
        selected = node is not None and is_op(node, *SELECTING) and (node, 0) in self.placement.reads
        return self.result.ranges[node.inputs[0]] if selected and node and node.inputs[0] is not None else None

    def _forget(self, value: ir.Value) -> None:
        for kept in (self.exact, self.rough, self.stepped):
            kept.pop(value, None)

    def _compute(self, node: ir.Node) -> None:
        """Run a node twice, and correct the bias of a layer."""
        is_layer = node in self.placement.layers
        read = [value for value in node.inputs if value is not None and value in self.exact]
        runner = NodeRunner(node, self.model, self.threads, {node.inputs[1]: np.empty(0)} if is_layer else {})
        batches = range(len(self.exact[read[0]])) if read else range(1)
        exact = [runner.run({value: self.exact[value][i] for value in read}) for i in batches]
        weights = self._weights(node, [outputs[0] for outputs in exact]) if is_layer else None
        with_weights = {} if weights is None else {node.inputs[1]: weights.rounded}
        rough = [
            runner.run(
                {value: (self.stepped if self._is_quantized(node, value) else self.rough)[value][i] for value in read},
                with_weights,
            )
            for i in batches
        ]
        if weights is not None:
            self._correct(node, exact, rough)
        for position, output in enumerate(node.outputs):
            if output.name:
                self._keep(output, [o[position] for o in exact], [o[position] for o in rough])

    def _is_quantized(self, node: ir.Node, value: ir.Value) -> bool:
        return any((node, index) in self.placement.reads for index, read in enumerate(node.inputs) if read is value)

    def _weights(self, node: ir.Node, wanted: Chunks) -> Weights:
        stored = constant(node.inputs[1])
        assert stored is not None
        weights = np.asarray(stored)
        self.result.weights[node] = made = self._rounded(node, weights, wanted)
        return made

    def _rounded(self, node: ir.Node, weights: Array, wanted: Chunks) -> Weights:
        nearest = quantized_weights(weights, weight_axis(node))
        if self.recipe.rounding is Rounding.NEAREST or node.inputs[0] is None:
            return nearest
        found = moments(node, self.stepped[node.inputs[0]], wanted, weights.shape[2:] if is_op(node, "Conv") else ())
        if found is None:
            return nearest
        by = by_descent if self.recipe.rounding is Rounding.DESCENT else by_adaround
        return by(node, weights, nearest, found)

    def _correct(self, node: ir.Node, exact: list[list[Array]], rough: list[list[Array]]) -> None:
        """Add the mean difference of the outputs, for each channel, to the quantized output."""
        wanted, found = [o[0] for o in exact], [o[0] for o in rough]
        self.result.sqnr[node] = decibels(wanted, found)
        if not self.recipe.correct or not has_constant_bias(node):
            return
        others = tuple(axis for axis in range(wanted[0].ndim) if axis != 1)
        samples = sum(chunk.size / chunk.shape[1] for chunk in wanted)
        total = sum((e.astype(np.float64) - r).sum(axis=others) for e, r in zip(wanted, found, strict=True))
        correction = np.asarray(total / samples, np.float32)
        shape = [-1 if axis == 1 else 1 for axis in range(wanted[0].ndim)]
        for outputs in rough:
            outputs[0] = outputs[0] + correction.reshape(shape)
        self.result.corrections[node] = correction
        size = math.sqrt(sum(float(np.square(chunk, dtype=np.float64).sum()) for chunk in wanted) / samples)
        self.result.relative[node] = float(np.linalg.norm(correction)) / size if size else 0.0


def _told_apart(value: ir.Value, chunks: Chunks) -> Chunks:
    """A tensor's values, clipped to the ends beyond which none of its readers tells them apart."""
    ends = [_ends(node) for node in users(value)]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    return [np.clip(chunk, low, high) for chunk in chunks] if math.isfinite(low) else chunks


def _ends(node: ir.Node) -> tuple[float, float]:
    """Below the first all inputs have one output, and so have those above the second."""
    if is_op(node, "HardSwish"):
        return -3.0, math.inf
    if is_op(node, "HardSigmoid"):
        slope, shift = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
        return -shift / slope, (1 - shift) / slope
    return -math.inf, math.inf


def _refuse_not_finite(value: ir.Value, chunks: Chunks) -> None:
    """Refuse the first tensor with a value that is no number."""
    if all(chunk.dtype.kind != "f" or np.isfinite(chunk).all() for chunk in chunks):
        return
    node = value.producer()
    what = f"the input {value.name}"
    if node is not None:
        what = f"{node.name} of {node.metadata_props.get(MODULE_KEY) or 'the graph'}"
    raise InputError(
        f"{what} is NaN or infinite on a calibration image, and nothing before it is",
        hint="Is the float32 file right on these images? attn-export validate compares it with its checkpoint.",
    )


def has_constant_bias(layer: ir.Node) -> bool:
    """Whether a layer's bias can be corrected: it is a constant, or left out. A MatMul has none."""
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    return layer.op_type != "MatMul" and (bias is None or constant(bias) is not None)


class NodeRunner:
    """One node in ONNX Runtime, without optimizations.

    Args:
        node: its constants become constants of its session.
        model: its graph's, for the operator sets.
        threads: of ONNX Runtime.
        replaced: constants that are inputs instead, with any value.
    """

    def __init__(self, node: ir.Node, model: ir.Model, threads: int, replaced: Mapping[ir.Value | None, Array]) -> None:
        self.defaults: dict[str, Array] = {}
        copies: dict[ir.Value, ir.Value] = {}
        initializers, inputs = [], []
        for value in dict.fromkeys(v for v in node.inputs if v is not None):
            copy = copies[value] = ir.Value(name=value.name, type=value.type)
            stored = constant(value)
            if stored is None or value in replaced:
                inputs.append(copy)
                if stored is not None:
                    self.defaults[str(value.name)] = np.asarray(stored)
            else:
                copy.const_value, copy.shape = ir.Tensor(np.asarray(stored), name=value.name), value.shape
                initializers.append(copy)
        outputs = [ir.Value(name=output.name, type=output.type) for output in node.outputs]
        alone = ir.node(
            node.op_type,
            [None if v is None else copies[v] for v in node.inputs],
            attributes=dict(node.attributes),
            domain=node.domain,
            outputs=outputs,
            name=node.name,
        )
        named = [output for output in outputs if output.name]
        graph = ir.Graph(inputs, named, nodes=[alone], initializers=initializers, opset_imports=model.opset_imports)
        self.outputs = [str(output.name) for output in named]
        self.session = PlainSession(ir.Model(graph, ir_version=model.ir_version), threads)

    def run(
        self, read: Mapping[ir.Value, Array], replaced: Mapping[ir.Value | None, Array] | None = None
    ) -> list[Array]:
        """The outputs for one batch."""
        others = {str(value.name): array for value, array in (replaced or {}).items() if value is not None}
        feeds = {**self.defaults, **others, **{str(value.name): array for value, array in read.items()}}
        results = self.session.run(feeds, bounded=False)
        return [results[name] for name in self.outputs]
