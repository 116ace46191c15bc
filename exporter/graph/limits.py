"""Limits of what a file may unfold to: a file of two kilobytes can describe more nodes than any memory holds."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import onnx
import onnx_ir as ir

from attn_export.exporter.errors import UnreadableGraphError
from attn_export.exporter.graph.facts import is_op, stored

MAX_NODES = 1_000_000
MAX_ELEMENTS = 2**28
# Operators whose results may be larger than all of their inputs.
GROWING = ("Range", "ConstantOfShape", "Expand", "Tile", "OneHot")


def check_names(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse two weights of one name.

    Raises:
        UnreadableGraphError: names the weight.
    """
    counts = Counter(tensor.name for tensor in proto.graph.initializer)
    if twice := next((name for name, count in counts.items() if count > 1), None):
        raise UnreadableGraphError(
            f"{path} is not valid ONNX: it has two weights called {twice}",
            hint="The program that wrote the file has to be mended.",
        )


def check_functions(proto: onnx.ModelProto, path: Path) -> None:
    """Count the nodes that the file has once its local functions are inlined.

    Raises:
        UnreadableGraphError: there are more than ``MAX_NODES``, or a function calls itself.
    """
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    entered: set[tuple[str, str, str]] = set()

    @cache
    def size(key: tuple[str, str, str]) -> int:
        if key in entered:
            raise UnreadableGraphError(f"{path} is not valid ONNX: its function {key[1]} calls itself")
        entered.add(key)
        return total(functions[key].node)

    def total(nodes: Iterable[onnx.NodeProto]) -> int:
        called = Counter((node.domain, node.op_type, node.overload) for node in _all_nodes(nodes))
        return sum(count * (size(key) if key in functions else 1) for key, count in called.items())

    if functions and (count := total(proto.graph.node)) > MAX_NODES:
        raise UnreadableGraphError(
            f"{path} has {count:.2g} nodes once its functions are inlined, and {MAX_NODES} are the limit",
            hint="Where does this file come from? No network of this size is known.",
        )


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those in their bodies."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _all_nodes(body.node)


def check_grown(model: ir.Model, path: Path) -> None:
    """Refuse constants that are computed larger than any memory: shape inference would compute them.

    Raises:
        UnreadableGraphError: names the node.
    """
    for node in model.graph.all_nodes():
        if (count := grown(node)) > MAX_ELEMENTS:
            raise UnreadableGraphError(
                f"{path} computes a constant of {count:.2g} elements in its {node.op_type} {node.name or ''}".rstrip(),
                hint=f"{MAX_ELEMENTS} elements are the limit. Where does this file come from?",
            )


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
    sizes = inputs[0] if is_op(node, "ConstantOfShape") else inputs[1]
    return math.prod(map(float, sizes.reshape(-1))) * (inputs[0].size if is_op(node, "Tile", "OneHot") else 1)
