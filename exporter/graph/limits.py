"""Limits of what a file may unfold to: a file of two kilobytes can describe more nodes than any memory holds."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from attn_export.exporter.errors import UnreadableGraphError
from attn_export.exporter.graph.dialect import bodies_of
from attn_export.exporter.graph.facts import DEFAULT_DOMAINS, attribute, is_op, stored

MAX_NODES, MAX_WEIGHTS, MAX_ENDS = 20_000, 50_000, 1_000
MAX_CALLS = 100  # functions in each other
MAX_COPIES = 2_000  # of one function: to name each copy's values, onnx-ir tries the numbers of all before
MAX_ELEMENTS = 2**28
MAX_TRIPS = 2**20
# Operators whose results may be larger than all of their inputs.
WINDOWS = ("BlackmanWindow", "HannWindow", "HammingWindow")
GROWING = ("Range", "ConstantOfShape", "Expand", "Tile", "OneHot", *WINDOWS)


def check_counts(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse two weights of one name, and more than networks have of anything, local functions inlined.

    Raises:
        UnreadableGraphError: names the weight, or what there is too much of.
    """
    graph = proto.graph
    counts = Counter(tensor.name for tensor in graph.initializer)
    if twice := next((name for name, count in counts.items() if count > 1), None):
        raise UnreadableGraphError(
            f"{path} is not valid ONNX: it has two weights called {twice}",
            hint="The program that wrote the file has to be mended.",
        )
    nodes, copies = _inlined(proto, path)
    for what, count, limit in (
        ("inputs and outputs", len(graph.input) + len(graph.output) - _overridable(graph), MAX_ENDS),
        ("weights", len(graph.initializer), MAX_WEIGHTS),
        ("nodes, with its functions inlined", nodes, MAX_NODES),
        ("calls of one function", copies.most_common(1)[0][1] if copies else 0, MAX_COPIES),
    ):
        if count > limit:
            raise UnreadableGraphError(
                f"{path} has {count:,} {what}, and {limit:,} are the limit",
                hint="Where does this file come from? No network with attention is known that has so many.",
            )


def _overridable(graph: onnx.GraphProto) -> int:
    """The weights that are listed as inputs too, as in files of IR version 3."""
    return len({value.name for value in graph.input} & {tensor.name for tensor in graph.initializer})


Key = tuple[str, str, str]


def _inlined(proto: onnx.ModelProto, path: Path) -> tuple[int, Counter[Key]]:
    """The number of nodes once all functions are inlined, and how often each of these is."""
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    found: dict[Key, tuple[int, Counter[Key]]] = {}
    calling: list[Key] = []

    def inside(key: Key) -> tuple[int, Counter[Key]]:
        if key in calling or len(calling) > MAX_CALLS:
            problem = "calls itself" if key in calling else f"is called through more than {MAX_CALLS} others"
            raise UnreadableGraphError(f"{path} is not valid ONNX: its function {key[1]} {problem}")
        if key not in found:
            calling.append(key)
            found[key] = total(functions[key].node)
            calling.pop()
        return found[key]

    def total(nodes: Sequence[onnx.NodeProto]) -> tuple[int, Counter[Key]]:
        every = (*nodes, *(node for body in bodies_of(nodes) for node in body.node))
        size, copies = 0, Counter[Key]()
        for key, count in Counter((node.domain, node.op_type, node.overload) for node in every).items():
            inner, calls = inside(key) if key in functions else (1, Counter[Key]())
            size += count * inner
            if key in functions:
                copies[key] += count
                for other, times in calls.items():
                    copies[other] += count * times
        return size, copies

    return total(proto.graph.node)


def check_grown(model: ir.Model, path: Path) -> None:
    """Refuse constants that are computed larger than any memory, which shape inference would do, and endless loops.

    Raises:
        UnreadableGraphError: names the node.
    """
    sizes: dict[ir.Value, float] = {}
    for node in model.graph.all_nodes():
        count = grown(node) or _einsum(node) or _joined(node, sizes)
        sizes |= dict.fromkeys(node.outputs, count)
        if count > MAX_ELEMENTS:
            raise UnreadableGraphError(
                f"{path} computes a constant of {count:.2g} elements in its {node.op_type} {node.name or ''}".rstrip(),
                hint=f"{MAX_ELEMENTS} elements are the limit. Where does this file come from?",
            )
        trips = stored(node.inputs[0]) if is_op(node, "Loop") and node.inputs else None
        if trips is not None and trips.size == 1 and float(trips.reshape(-1)[0]) > MAX_TRIPS:
            raise UnreadableGraphError(
                f"{path} repeats its Loop {node.name or ''} {float(trips.reshape(-1)[0]):.2g} times",
                hint=f"{MAX_TRIPS} times are the limit. Where does this file come from?",
            )


def _joined(node: ir.Node, sizes: Mapping[ir.Value, float]) -> float:
    """The number of elements of a constant that a Concat, or what only passes it on, computes; 0 if it isn't known."""
    counts = [sizes.get(value) or _stored_size(value) for value in node.inputs if value is not None]
    if not counts or not all(counts) or node.domain not in DEFAULT_DOMAINS:
        return 0
    return sum(counts) if is_op(node, "Concat") else max(counts) if is_op(node, "Identity", "Cast", "Add", "Mul") else 0


def _einsum(node: ir.Node) -> float:
    """The number of elements of an Einsum of constants; 0 if it isn't known."""
    tensors = [ir.convenience.get_const_tensor(value) for value in node.inputs if value is not None]
    if not is_op(node, "Einsum") or any(tensor is None for tensor in tensors):
        return 0
    terms, arrow, result = str(attribute(node, "equation", "")).replace(" ", "").partition("->")
    shapes = (tensor.shape.numpy() for tensor in tensors if tensor is not None)
    sizes = {
        axis: size
        for term, shape in zip(terms.split(","), shapes, strict=False)
        for axis, size in zip(term, shape, strict=False)
    }
    return math.prod(float(sizes.get(axis, 1)) for axis in (result if arrow else sizes))


def _stored_size(value: ir.Value) -> int:
    tensor = ir.convenience.get_const_tensor(value)
    return 0 if tensor is None else tensor.size


def grown(node: ir.Node) -> float:
    """The number of elements of a constant that a growing operator computes; 0 where it isn't known."""
    if not is_op(node, *GROWING):
        return 0
    inputs = [array for array in map(stored, node.inputs) if array is not None and array.size]
    if len(inputs) < len(node.inputs):
        return 0
    if is_op(node, "Range"):
        start, limit, delta = (float(array.reshape(-1)[0]) for array in inputs)
        return max(0.0, (limit - start) / delta) if delta else math.inf
    sizes = inputs[0] if is_op(node, "ConstantOfShape", *WINDOWS) else inputs[1]
    return math.prod(map(float, sizes.reshape(-1))) * (inputs[0].size if is_op(node, "Tile", "OneHot") else 1)
