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

from attn_export.exporter.graph.facts import constant
from attn_export.exporter.graph.session import PlainSession
from attn_export.exporter.precision.int8.placement import Placement, weight_axis
from attn_export.exporter.precision.int8.ranges import Method, Range, Weights, choose, quantized_weights
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.system.progress import Advance

Chunks = list[Array]  # one tensor on all images, in the batches in which they run


@dataclass
class Sweep:
    """What a sweep found.

    Attributes:
        ranges: of each quantized activation.
        weights: of each layer, in int8.
        corrections: of each layer's bias, (channels,) float32; empty without bias correction.
        sqnr: of each quantized activation's rounding alone, and of each layer's output before its correction, in dB.
        relative: the root mean square of a correction relative to that of the layer's output.
        outputs: (float32, quantized) of the graph, for each batch.
    """

    ranges: dict[ir.Value, Range] = field(default_factory=dict)
    weights: dict[ir.Node, Weights] = field(default_factory=dict)
    corrections: dict[ir.Node, Array] = field(default_factory=dict)
    sqnr: dict[ir.Value | ir.Node, float | None] = field(default_factory=dict)
    relative: dict[ir.Node, float] = field(default_factory=dict)
    outputs: tuple[dict[str, Chunks], dict[str, Chunks]] = field(default_factory=lambda: ({}, {}))


def sweep(
    model: ir.Model,
    placement: Placement,
    feeds: Sequence[Mapping[str, Array]],
    method: Method,
    *,
    symmetric: bool,
    correct: bool,
    threads: int,
    advance: Advance = lambda _: None,
) -> Sweep:
    """Choose ranges, round weights and correct biases.

    Args:
        model: cleaned, float32, without subgraphs, types known; it isn't changed.
        placement: where it is quantized.
        feeds: the calibration images: inputs by name, one mapping for each batch.
        method: of choosing ranges.
        symmetric: int8 activations with zero point 0 instead of uint8.
        correct: the biases too.
        threads: of ONNX Runtime.
        advance: receives the finished share, 0..1.

    Raises:
        InputError: a value is NaN or infinite.
        SessionError: ONNX Runtime can't run a node.
    """
    return _Sweeper(model, placement, method, symmetric, correct, threads).run(feeds, advance)


class _Sweeper:
    def __init__(
        self, model: ir.Model, placement: Placement, method: Method, symmetric: bool, correct: bool, threads: int
    ) -> None:
        self.model, self.placement, self.method = model, placement, method
        self.symmetric, self.correct, self.threads = symmetric, correct, threads
        self.quantized = placement.values
        self.result = Sweep()
        self.exact: dict[ir.Value, Chunks] = {}
        self.rough: dict[ir.Value, Chunks] = {}
        self.stepped: dict[ir.Value, Chunks] = {}  # `rough` behind QuantizeLinear and DequantizeLinear

    def run(self, feeds: Sequence[Mapping[str, Array]], advance: Advance) -> Sweep:
        graph = self.model.graph
        last = Counter(value for node in graph for value in set(node.inputs) if value is not None)
        last.update(graph.outputs)
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
        for value in graph.outputs:
            self.result.outputs[0][str(value.name)] = self.exact[value]
            self.result.outputs[1][str(value.name)] = self.rough[value]
        return self.result

    def _keep(self, value: ir.Value, exact: Chunks, rough: Chunks) -> None:
        """Keep a tensor's values; one that is quantized gets its range now."""
        self.exact[value], self.rough[value] = exact, rough
        if value in self.quantized:
            chosen = choose(str(value.name), exact, self.method, symmetric=self.symmetric)
            self.result.ranges[value] = chosen
            self.stepped[value] = [chosen.grid.rounded(chunk) for chunk in rough]
            self.result.sqnr[value] = decibels(exact, [chosen.grid.rounded(chunk) for chunk in exact])

    def _forget(self, value: ir.Value) -> None:
        for kept in (self.exact, self.rough, self.stepped):
            kept.pop(value, None)

    def _compute(self, node: ir.Node) -> None:
        """Run a node twice, and correct the bias of a layer."""
        weights = self._weights(node)
        read = [value for value in node.inputs if value is not None and value in self.exact]
        with_weights = {} if weights is None else {node.inputs[1]: weights.rounded}
        runner = NodeRunner(node, self.model, self.threads, with_weights)
        batches = range(len(self.exact[read[0]])) if read else range(1)
        exact = [runner.run({value: self.exact[value][i] for value in read}) for i in batches]
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

    def _weights(self, node: ir.Node) -> Weights | None:
        if node not in self.placement.layers:
            return None
        stored = constant(node.inputs[1])
        assert stored is not None
        self.result.weights[node] = quantized_weights(np.asarray(stored), weight_axis(node))
        return self.result.weights[node]

    def _correct(self, node: ir.Node, exact: list[list[Array]], rough: list[list[Array]]) -> None:
        """Add the mean difference of the outputs, for each channel, to the quantized output."""
        wanted, found = [o[0] for o in exact], [o[0] for o in rough]
        self.result.sqnr[node] = decibels(wanted, found)
        if not self.correct or not has_constant_bias(node):
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
        """The outputs for one batch.

        Args:
            read: the activations.
            replaced: constants of other values than the graph's.
        """
        others = {str(value.name): array for value, array in (replaced or {}).items() if value is not None}
        feeds = {**self.defaults, **others, **{str(value.name): array for value, array in read.items()}}
        results = self.session.run(feeds)
        return [results[name] for name in self.outputs]


def decibels(exact: Sequence[Array], found: Sequence[Array]) -> float | None:
    """Signal-to-quantization-noise ratio of a tensor, given batch by batch; None without a difference."""
    signal, noise = 0.0, 0.0
    for wanted, got in zip(exact, found, strict=True):
        signal += float(np.square(wanted, dtype=np.float64).sum())
        noise += float(np.square(wanted - got, dtype=np.float64).sum())
    return 10 * math.log10(signal / noise) if noise and signal else None
