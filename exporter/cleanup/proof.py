"""Proof that a rewrite computes the same: what it replaces and what it puts there, run in float64, side by side.

Both parts are cut out of the graph and given to ONNX's reference evaluator (https://onnx.ai/onnx/api/reference.html),
which computes in the type that it is given. In float64 two exact forms differ by 1e-15 or so, and a wrong one by far
more than what float32 would hide: the limit needs no judgement.
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

Array = np.ndarray[Any, Any]

# Two orders of summation in float64, over at most some thousand terms.
EXACT = 1e-11
# A recomputed constant is rounded once to the file's type: a few units in its last place.
ROUNDINGS = 8
FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
# What stands for a size that isn't known, by the axis: two shapes, odd and even, none of them square.
STAND_INS = ((1, 4, 5, 6), (3, 6, 7, 4))
# Sizes for H and W where they are known but nothing in the part depends on them.
SMALL_MAPS = ((3, 4), (5, 2))
# Wide enough to reach both ends of a hard sigmoid.
SPREAD = 5.0
# Parts with larger constants than shapes and scalars are weights', and each is proven for itself.
REMEMBERED_BYTES = 4096
# Operators to which H and W are nothing but how often they are applied.
SIZE_FREE = frozenset(
    "Conv BatchNormalization Relu Sigmoid HardSigmoid HardSwish Clip Add Sub Mul Div Min Max Identity Cast "
    "GlobalAveragePool GlobalMaxPool ReduceMean ReduceMax ReduceSum Concat Unsqueeze Squeeze Flatten "
    "Shape Gather Slice ConstantOfShape Equal Where".split()
)


class Unprovable(Exception):  # noqa: N818 - not an error: the rewrite is reverted, and the reason told
    """The part can't be run outside of the graph; the message says why."""


def allowed(rewrite: Rewrite, recomputes_constants: bool) -> float:
    """How large `error_of` may be, relative."""
    if not recomputes_constants:
        return EXACT
    dtype = rewrite.old.dtype
    if dtype == ir.DataType.BFLOAT16:
        return ROUNDINGS * 2.0**-8
    return ROUNDINGS * float(np.finfo(np.float16 if dtype == ir.DataType.FLOAT16 else np.float32).eps)


class Prover:
    """Proves rewrites of one graph.

    A part that has been proven isn't proven again: sixteen blocks have sixteen pools to be rewritten, of four sizes,
    and where neither part holds weights, the same operators on the same shapes are the same computation.

    Args:
        opset: of the graph.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.known: dict[tuple[Any, ...], float] = {}

    def error_of(self, rewrite: Rewrite) -> float:
        """The largest difference between the two parts, relative to the largest value of the old one, over two shapes.

        Args:
            rewrite: not yet applied.

        Raises:
            Unprovable: the part has an operator of another domain, or inputs of unknown rank.
        """
        before, inputs = cut(rewrite.old, rewrite.inputs)
        frontier = list(dict.fromkeys([*rewrite.inputs, *inputs]))
        old = Part(before, frontier, rewrite.old, self.opset)
        new = Part(rewrite.nodes, frontier, rewrite.new, self.opset)
        key = (*old.key, *new.key, *(dims(value) for value in frontier))
        if old.weighs + new.weighs > REMEMBERED_BYTES:
            return _error(old, new, frontier)
        if key not in self.known:
            self.known[key] = _error(old, new, frontier)
        return self.known[key]


def _error(old: "Part", new: "Part", frontier: Sequence[ir.Value]) -> float:
    if all(_is_size_free(node) for node in (*old.nodes, *new.nodes)):
        try:
            return _largest_difference(old, new, frontier, small=True)
        except Unprovable:  # a size is written in the graph after all
            pass
    return _largest_difference(old, new, frontier, small=False)


def _largest_difference(old: "Part", new: "Part", frontier: Sequence[ir.Value], *, small: bool) -> float:
    worst = 0.0
    for trial in range(len(STAND_INS)):
        feeds = _feeds(frontier, trial, small=small)
        expected, got = old(feeds), new(feeds)
        largest = float(np.abs(expected).max(initial=0.0))
        if expected.shape != got.shape or not np.isfinite(largest):
            return float("inf")
        if not np.array_equal(got, expected):
            difference = float(np.abs(got - expected).max()) / max(largest, float(np.finfo(np.float64).tiny))
            worst = max(worst, difference if np.isfinite(difference) else float("inf"))
    return worst


def cut(output: ir.Value, inputs: Sequence[ir.Value]) -> tuple[list[ir.Node], list[ir.Value]]:
    """The nodes between some values and an output, in order of computation, and what else flows into them.

    What is asked for its shape only is an input, not something to compute.
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
    """Whether H and W mean nothing to the node but how often it is applied."""
    if is_op(node, "Expand"):
        return constant(node.inputs[1]) is None
    if not is_op(node, "Conv"):
        return is_op(node, *SIZE_FREE)
    source, kernel = dims(node.inputs[0]), dims(node.inputs[1])
    if source is None or kernel is None or len(kernel) != 4:
        return False
    # Without padding a convolution may take all of H and W at once.
    return not any(isinstance(k, int) and k > 1 and k == s for k, s in zip(kernel[2:], source[2:], strict=False))


class Part:
    """A part of a graph as a function of its inputs.

    Attributes:
        weighs: bytes of its constants.
    """

    def __init__(self, nodes: Sequence[ir.Node], inputs: Sequence[ir.Value], output: ir.Value, opset: int) -> None:
        names = _Names()
        self.nodes, self.opset = nodes, opset
        self.inputs = {value: names[value] for value in inputs}
        self.protos = [_proto(node, names) for node in nodes]
        self.constants: dict[str, ir.Value] = {}
        for node in nodes:
            for value in node.inputs:
                if value is not None and value not in self.inputs and constant(value) is not None:
                    self.constants[names[value]] = value
        self.output = names[output]
        made = {name for proto in self.protos for name in proto.output}
        if self.output not in made and output not in self.inputs:  # it would be returned as it is
            raise Unprovable("what is put in its place isn't one of its inputs")
        self.weighs = sum(v.const_value.nbytes for v in self.constants.values() if v.const_value is not None)

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes it another computation, as long as its constants are few."""
        if self.weighs > REMEMBERED_BYTES:
            return ()
        tensors = [value.const_value for value in self.constants.values() if value.const_value is not None]
        contents = [(int(t.dtype), tuple(t.shape.numpy()), t.tobytes()) for t in tensors]
        return (*(proto.SerializeToString() for proto in self.protos), self.output, *contents)

    @cached_property
    def run(self) -> Any:
        """The evaluator.

        Raises:
            Unprovable: it doesn't take the part.
        """
        from onnx.reference import ReferenceEvaluator

        unknown = onnx.TypeProto()
        graph = onnx.GraphProto(
            name="part",
            node=self.protos,
            input=[onnx.ValueInfoProto(name=n, type=unknown) for n in (*self.inputs.values(), *self.constants)],
            output=[onnx.ValueInfoProto(name=self.output, type=unknown)],
        )
        opsets = [onnx.OperatorSetIdProto(domain="", version=self.opset)]
        try:
            return ReferenceEvaluator(
                onnx.ModelProto(ir_version=10, graph=graph, opset_import=opsets), new_ops=whole_map_operators()
            ).run
        except Exception as error:
            raise Unprovable(f"ONNX's reference evaluator doesn't take it: {first_line(error)}") from error

    @cached_property
    def doubled(self) -> dict[str, Array]:
        """Its constants in float64."""
        return {name: _doubled(v.const_value.numpy(), v.dtype) for name, v in self.constants.items() if v.const_value}

    def __call__(self, feeds: dict[ir.Value, Array]) -> Array:
        """The output in float64.

        Raises:
            Unprovable: it can't be computed outside of the graph.
        """
        named = {name: feeds[value] for value, name in self.inputs.items()}
        if self.output in named:
            return named[self.output]
        try:
            (result,) = self.run([self.output], {**named, **self.doubled})
        except Unprovable:
            raise
        except Exception as error:
            raise Unprovable(f"it can't be run outside of the graph: {first_line(error)}") from error
        return np.asarray(result, dtype=np.float64)


class _Names(dict[ir.Value, str]):
    """A name for every value, whatever it is called, or isn't yet, in the graph."""

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
    """Random inputs of the shapes that they have, with stand-ins for what isn't known; one name, one size."""
    named: dict[str, int] = {}
    feeds: dict[ir.Value, Array] = {}
    for value in inputs:
        shape = dims(value)
        if shape is None:
            raise Unprovable("an input's rank isn't known")
        if value.dtype not in FLOATS:
            raise Unprovable("an input isn't of a floating type")
        sizes = []
        for axis, size in enumerate(shape):
            stand_in = STAND_INS[trial][min(axis, 3)]
            if small and len(shape) == 4 and axis > 1 and size != 1:
                stand_in = SMALL_MAPS[trial][axis - 2]
                size = stand_in
            if isinstance(size, str):
                size = named.setdefault(size, stand_in)
            sizes.append(stand_in if size is None else size)
        start = 7919 * len(feeds)  # another piece of it for every input
        piece = _noise(trial)[start : start + math.prod(sizes)]
        feeds[value] = piece.reshape(sizes) if len(piece) == math.prod(sizes) else np.resize(_noise(trial), sizes)
    return feeds


@cache
def _noise(trial: int) -> Array:
    """Random numbers between -SPREAD and SPREAD; their count is prime, so that no two channels of a map are alike."""
    return np.random.default_rng(trial).uniform(-SPREAD, SPREAD, 262147)
