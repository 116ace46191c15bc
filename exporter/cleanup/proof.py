"""Verifies a rewrite: the replaced nodes and their replacement run in float64, side by side.

ONNX's reference evaluator (https://onnx.ai/onnx/api/reference.html) computes in the type of its inputs. In float64 two
exact forms differ by 1e-15 or so, and a wrong form by far more than what float32 would hide.
"""

import math
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Rewrite
from attn_export.exporter.cleanup.whole_maps import whole_map_operators
from attn_export.exporter.errors import first_line
from attn_export.exporter.graph.facts import DEFAULT_DOMAINS, constant, dims, is_op
from attn_export.exporter.graph.randomness import is_random
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.policies import EPS16, EPS32, REWRITE

EPS: dict[ir.DataType | None, float] = {ir.DataType.FLOAT16: EPS16, ir.DataType.BFLOAT16: 2.0**-8}
FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
# Substitutes for unknown sizes, by axis: two shapes, odd and even, neither of them square.
SUBSTITUTES = ((1, 4, 5, 6), (3, 6, 7, 4))
# H and W where they are known but no node depends on them.
SMALL_MAPS = ((3, 4), (5, 2))
# Wide enough to reach both ends of a hard sigmoid.
SPREAD = 5.0
# Parts with more constants than shapes and scalars hold weights, and each is verified for itself.
REMEMBERED_BYTES = 4096
PIXEL, WHITE = ir.DataType.UINT8, 255
# Operators that treat all positions of a map alike.
SIZE_FREE = frozenset(
    "Conv BatchNormalization Relu Sigmoid HardSigmoid HardSwish Clip Add Sub Mul Div Min Max Identity Cast "
    "GlobalAveragePool GlobalMaxPool ReduceMean ReduceMax ReduceSum Concat Unsqueeze Squeeze Flatten "
    "Shape Gather Slice ConstantOfShape Equal Where".split()
)


class Unprovable(Exception):  # noqa: N818 - not an error: the rewrite is skipped, with this reason
    """The nodes can't run outside of the graph; the message says why."""


def tolerance_of(rewrite: Rewrite, recomputes_constants: bool) -> float:
    """The largest relative error of a correct rewrite."""
    return REWRITE.limit * (EPS.get(rewrite.old.dtype, EPS32) if recomputes_constants else REWRITE.floor)


class Prover:
    """Verifies the rewrites of one graph.

    Parts without weights that have the same operators, attributes and shapes are verified once.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.known: dict[tuple[Any, ...], float] = {}

    def error_of(self, rewrite: Rewrite) -> float:
        """The largest difference relative to the largest value of the replaced output, over two shapes.

        Raises:
            Unprovable: a node is of another domain, or an input of unknown rank.
        """
        before, inputs = cut(rewrite.old, rewrite.inputs)
        frontier = list(dict.fromkeys([*rewrite.inputs, *inputs]))
        old = Part(before, frontier, rewrite.old, self.opset)
        new = Part(rewrite.nodes, frontier, rewrite.new, self.opset)
        if old.weighs + new.weighs > REMEMBERED_BYTES:
            return _error(old, new, frontier)
        key = (*old.key(), *new.key(), *(dims(value) for value in frontier))
        if key not in self.known:
            self.known[key] = _error(old, new, frontier)
        return self.known[key]


def _error(old: "Part", new: "Part", frontier: Sequence[ir.Value]) -> float:
    if new.output not in new.constants and all(_is_size_free(node) for node in (*old.nodes, *new.nodes)):
        try:
            return _largest_difference(old, new, frontier, small=True)
        except Unprovable:  # a size is written in the graph after all
            pass
    return _largest_difference(old, new, frontier, small=False)


def _largest_difference(old: "Part", new: "Part", frontier: Sequence[ir.Value], *, small: bool) -> float:
    worst = 0.0
    for trial in range(len(SUBSTITUTES)):
        feeds = _feeds(frontier, trial, small=small)
        expected, computed = old(feeds), new(feeds)
        largest = float(np.abs(expected).max(initial=0.0))
        if expected.shape != computed.shape or not np.isfinite(largest):
            return math.inf
        if not np.array_equal(computed, expected):
            difference = float(np.abs(computed - expected).max()) / max(largest, float(np.finfo(np.float64).tiny))
            worst = max(worst, difference if np.isfinite(difference) else math.inf)
    return worst


def cut(output: ir.Value, inputs: Sequence[ir.Value]) -> tuple[list[ir.Node], list[ir.Value]]:
    """The nodes between inputs and an output, in topological order, and their other inputs.

    A value of which only the shape is used is an input.
    """
    nodes: list[ir.Node] = []
    further: dict[ir.Value, None] = {}
    seen: set[ir.Value] = set()

    def visit(value: ir.Value, by: ir.Node | None) -> None:
        if value in seen or value in inputs or constant(value) is not None:
            return
        node = value.producer()
        if node is None or (by is not None and is_op(by, "Shape")):
            further[value] = None
            return
        seen.add(value)
        for source in node.inputs:
            if source is not None:
                visit(source, node)
        if node not in nodes:
            nodes.append(node)

    visit(output, None)
    return nodes, list(further)


def _is_size_free(node: ir.Node) -> bool:
    """Whether H and W only set how often the node is applied."""
    if is_op(node, "Expand"):
        return constant(node.inputs[1]) is None
    if not is_op(node, "Conv"):
        return is_op(node, *SIZE_FREE)
    source, kernel = dims(node.inputs[0]), dims(node.inputs[1])
    if source is None or kernel is None or len(kernel) != 4:
        return False
    # Without padding the kernel of a convolution may cover all of H and W.
    return not any(isinstance(k, int) and k > 1 and k == s for k, s in zip(kernel[2:], source[2:], strict=False))


class Part:
    """Nodes of a graph as a function of their inputs. ``weighs``: bytes of its constants."""

    def __init__(self, nodes: Sequence[ir.Node], inputs: Sequence[ir.Value], output: ir.Value, opset: int) -> None:
        names = _Names()
        self.nodes, self.opset = nodes, opset
        self.inputs = {value: names[value] for value in inputs}
        self.protos = [_proto(node, names) for node in nodes]
        read = dict.fromkeys((output, *(value for node in nodes for value in node.inputs if value is not None)))
        self.constants = {names[v]: v for v in read if v not in self.inputs and constant(v) is not None}
        self.tensors = {name: v.const_value for name, v in self.constants.items() if v.const_value is not None}
        self.output = names[output]
        computed = {name for proto in self.protos for name in proto.output}
        if self.output not in {*computed, *self.inputs.values(), *self.constants}:
            raise Unprovable("its replacement is a value that isn't one of its inputs")
        self.weighs = sum(tensor.nbytes for tensor in self.tensors.values())

    def key(self) -> tuple[Any, ...]:
        """Identifies the computation."""
        contents = [(int(t.dtype), tuple(t.shape.numpy()), t.tobytes()) for t in self.tensors.values()]
        return (*(proto.SerializeToString() for proto in self.protos), self.output, *contents)

    @cached_property
    def run(self) -> Any:
        """The evaluator. Raises Unprovable: it rejects the nodes."""
        from onnx.reference import ReferenceEvaluator

        unknown = onnx.TypeProto()
        graph = onnx.GraphProto(
            name="part",
            node=self.protos,
            input=[onnx.ValueInfoProto(name=n, type=unknown) for n in (*self.inputs.values(), *self.constants)],
            output=[onnx.ValueInfoProto(name=self.output, type=unknown)],
        )
        opsets = [onnx.OperatorSetIdProto(domain="", version=self.opset)]
        model = onnx.ModelProto(ir_version=10, graph=graph, opset_import=opsets)
        try:
            return ReferenceEvaluator(model, new_ops=whole_map_operators()).run
        except Exception as error:
            raise Unprovable(f"ONNX's reference evaluator rejects it: {first_line(error)}") from error

    @cached_property
    def doubled(self) -> dict[str, Array]:
        """Its constants in float64."""
        return {name: _doubled(t.numpy(), self.constants[name].dtype) for name, t in self.tensors.items()}

    def __call__(self, feeds: dict[ir.Value, Array]) -> Array:
        """The output in float64."""
        named = {name: feeds[value] for value, name in self.inputs.items()}
        if self.output in (given := {**named, **self.doubled}):
            return given[self.output]
        run = self.run
        try:
            (result,) = run([self.output], given)
        except Exception as error:
            raise Unprovable(f"it can't run outside of the graph: {first_line(error)}") from error
        return np.asarray(result, dtype=np.float64)


class _Names(dict[ir.Value, str]):
    """A name for every value, independent of its name in the graph."""

    def __missing__(self, value: ir.Value) -> str:
        self[value] = f"v{len(self)}"
        return self[value]


def _proto(node: ir.Node, names: _Names) -> onnx.NodeProto:
    if node.domain not in DEFAULT_DOMAINS:
        raise Unprovable(f"{node.op_type} of the domain {node.domain} can't be run here")
    if is_random(node):
        raise Unprovable(f"{node.op_type} is random")
    proto = onnx.NodeProto(
        op_type=node.op_type,
        input=[names[v] if v is not None else "" for v in node.inputs],
        output=[names[v] for v in node.outputs],
    )
    for attribute in node.attributes.values():
        copied = ir.serde.serialize_attribute(attribute)
        if node.op_type == "Cast" and copied.name == "to" and ir.DataType(copied.i) in FLOATS:
            copied.i = int(ir.DataType.DOUBLE)
        if node.op_type == "ConstantOfShape" and attribute.value.dtype in FLOATS:
            copied.t.CopyFrom(onnx.numpy_helper.from_array(_doubled(attribute.value.numpy(), attribute.value.dtype)))
        proto.attribute.append(copied)
    return proto


def _doubled(array: Array, dtype: ir.DataType | None) -> Array:
    """In float64, if it is of a floating type."""
    return np.asarray(array, dtype=np.float64) if dtype in FLOATS else np.asarray(array)


def _feeds(inputs: Sequence[ir.Value], trial: int, *, small: bool) -> dict[ir.Value, Array]:
    """Random inputs, with substitutes for unknown sizes; axes of one name have one size."""
    named: dict[str, int] = {}
    feeds: dict[ir.Value, Array] = {}
    for value in inputs:
        shape = dims(value)
        if shape is None or value.dtype not in (*FLOATS, PIXEL):
            raise Unprovable("an input's rank isn't known" if shape is None else "an input isn't of a floating type")
        sizes = []
        for axis, size in enumerate(shape):
            substitute = SUBSTITUTES[trial][min(axis, 3)]
            if small and len(shape) == 4 and axis > 1 and size != 1:
                size = substitute = SMALL_MAPS[trial][axis - 2]
            sizes.append(size if isinstance(size, int) else named.setdefault(size, substitute) if size else substitute)
        start = 7919 * len(feeds)  # each input has another piece
        piece = _noise(trial)[start : start + math.prod(sizes)]
        noise = piece.reshape(sizes) if len(piece) == math.prod(sizes) else np.resize(_noise(trial), sizes)
        feeds[value] = ((noise + SPREAD) * WHITE / (2 * SPREAD)).astype(np.uint8) if value.dtype == PIXEL else noise
    return feeds


@cache
def _noise(trial: int) -> Array:
    """Random numbers between -SPREAD and SPREAD; their count is prime, so that no two channels of a map are alike."""
    return np.random.default_rng(trial).uniform(-SPREAD, SPREAD, 262147)
