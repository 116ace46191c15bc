"""Symbolic evaluation of shape arithmetic.

``x.view(x.size(0), -1, 1, 1).expand_as(x)`` leaves Shape, Gather, Concat, Where, … in a graph. They compute sizes:
known numbers, or axes of some value. Two axes are equal if they are the same axis of one value or have the same name.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from attn_export.exporter.graph.facts import WHOLE, attribute, axes_of, constant, dims, is_op, scalar

# Of values in one evaluation, and of sizes in a tensor.
MAX_VALUES, MAX_SIZES = 128, 64
LARGEST = 2**63 - 1


@dataclass(frozen=True)
class AxisOf:
    """The size of a dynamic axis."""

    value: ir.Value
    axis: int


Size = int | str | AxisOf
SymbolicShape = tuple[Size | None, ...]
Seen = dict[ir.Value, SymbolicShape | None]


def shape_of(value: ir.Value) -> SymbolicShape | None:
    """The sizes of a value's axes; None for an unknown rank."""
    shape = dims(value)
    if shape is None:
        return None
    return tuple(d if d is not None else AxisOf(value, i) for i, d in enumerate(shape))


def sizes_in(value: ir.Value | None, seen: Seen | None = None) -> SymbolicShape | None:
    """The content of a tensor of sizes, with None for each unknown one; None for a tensor of anything else.

    ``seen`` are the contents that this evaluation has found already.
    """
    array = constant(value)
    if array is not None:
        return tuple(_integer(n) for n in array.reshape(-1).tolist()) if array.size <= MAX_SIZES else None
    node = value.producer() if value is not None else None
    if value is None or node is None or value.dtype not in WHOLE or not is_op(node, *_EVALUATE):
        return None
    seen = {} if seen is None else seen
    if value not in seen and len(seen) < MAX_VALUES:
        seen[value] = None  # it counts against the limit while it is evaluated
        seen[value] = _EVALUATE[node.op_type](node, seen)
    return seen.get(value)


def _integer(number: float) -> int | None:
    return int(number) if float(number).is_integer() else None


def _shape(node: ir.Node, _: Seen) -> SymbolicShape | None:
    source = node.inputs[0]
    shape = shape_of(source) if source is not None else None
    if shape is None:
        return None
    return shape[slice(attribute(node, "start", 0), attribute(node, "end", None))]


def _same(node: ir.Node, seen: Seen) -> SymbolicShape | None:
    return sizes_in(node.inputs[0], seen)


def _reshape(node: ir.Node, seen: Seen) -> SymbolicShape | None:
    target = constant(node.inputs[1])
    return sizes_in(node.inputs[0], seen) if target is not None and target.size <= 1 else None


def _concat(node: ir.Node, seen: Seen) -> SymbolicShape | None:
    if attribute(node, "axis", 0) not in (0, -1):
        return None
    joined: list[Size | None] = []
    for value in node.inputs:
        sizes = sizes_in(value, seen)
        if sizes is None:
            return None
        joined += sizes
    return tuple(joined)


def _gather(node: ir.Node, seen: Seen) -> SymbolicShape | None:
    source, index = sizes_in(node.inputs[0], seen), constant(node.inputs[1])
    if source is None or index is None or attribute(node, "axis", 0) != 0:
        return None
    picked = [int(i) for i in index.reshape(-1).tolist()]
    return tuple(source[i] for i in picked) if all(-len(source) <= i < len(source) for i in picked) else None


def _slice(node: ir.Node, seen: Seen) -> SymbolicShape | None:
    source = sizes_in(node.inputs[0], seen)
    bounds = [scalar(value) for value in node.inputs[1:]]  # start, end, axes, steps
    start, end, step = bounds[0], bounds[1], bounds[3] if len(bounds) > 3 else 1
    if source is None or start is None or end is None or step is None:
        return None
    return source[slice(int(start), int(end), int(step))]


def _arithmetic(node: ir.Node, seen: Seen) -> SymbolicShape | None:
    left, right = sizes_in(node.inputs[0], seen), sizes_in(node.inputs[1], seen)
    if left is None or right is None or (len(left) != len(right) and 1 not in (len(left), len(right))):
        return None
    length = max(len(left), len(right))
    pairs = zip(left * length if len(left) == 1 else left, right * length if len(right) == 1 else right, strict=True)
    return tuple(_combine(node.op_type, a, b) for a, b in pairs)


def _combine(op_type: str, a: Size | None, b: Size | None) -> Size | None:
    if isinstance(a, int) and isinstance(b, int):
        if op_type == "Div":
            return a // b if b and a % b == 0 else None
        number = {"Mul": a * b, "Add": a + b, "Sub": a - b, "Equal": int(a == b)}[op_type]
        return number if abs(number) <= LARGEST else None
    if op_type == "Mul" and 1 in (a, b):
        return b if a == 1 else a
    if op_type in ("Add", "Sub") and b == 0:
        return a
    # A dimension is never negative, unlike Expand's "keep this axis" (-1).
    negative = any(isinstance(n, int) and n < 0 for n in (a, b))
    if op_type == "Equal" and negative and None not in (a, b):
        return 0
    return None


def _where(node: ir.Node, seen: Seen) -> SymbolicShape | None:
    chosen, yes, no = (sizes_in(value, seen) for value in node.inputs)
    if chosen is None or yes is None or no is None or not len(chosen) == len(yes) == len(no):
        return None
    return tuple(None if c not in (0, 1) else y if c else n for c, y, n in zip(chosen, yes, no, strict=True))


def _constant_of_shape(node: ir.Node, seen: Seen) -> SymbolicShape | None:
    shape = sizes_in(node.inputs[0], seen)
    if shape is None or len(shape) != 1 or not isinstance(shape[0], int) or shape[0] > MAX_SIZES:
        return None
    fill = attribute(node, "value", None)
    number = _integer(np.asarray(fill.numpy()).item()) if fill is not None else 0
    return (number,) * shape[0]


def _view(node: ir.Node, seen: Seen) -> SymbolicShape | None:
    """Squeeze and Unsqueeze between a number and a list of one."""
    sizes = sizes_in(node.inputs[0], seen)
    return sizes if sizes is not None and len(sizes) == 1 and axes_of(node) in ((0,), None) else None


_EVALUATE = {
    "Shape": _shape,
    "Identity": _same,
    "Cast": _same,
    "Reshape": _reshape,
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Squeeze": _view,
    "Unsqueeze": _view,
    "Where": _where,
    "ConstantOfShape": _constant_of_shape,
    "Mul": _arithmetic,
    "Add": _arithmetic,
    "Sub": _arithmetic,
    "Div": _arithmetic,
    "Equal": _arithmetic,
}
SHAPE_ARITHMETIC = frozenset(_EVALUATE)


def shape_sources(value: ir.Value) -> tuple[ir.Value, ...]:
    """The values whose shapes shape arithmetic reads, and what else flows into it."""
    sources: dict[ir.Value, None] = {}
    waiting, visited = [value], set[ir.Value]()
    while waiting:
        current = waiting.pop()
        if current in visited:
            continue
        visited.add(current)
        node = current.producer()
        if node is None or not is_op(node, *SHAPE_ARITHMETIC):
            sources[current] = None
        elif is_op(node, "Shape"):
            sources |= {source: None for source in node.inputs if source is not None}
        else:
            waiting += [source for source in node.inputs if source is not None and constant(source) is None]
    return tuple(sources)
