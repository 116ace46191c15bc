"""A run of an axis written with ScatterND -> Concat of what stays and what is written.

Before:
    t = ScatterND(Transpose(x), [[0], [1], ..., [15]], Transpose(u))
    y = Transpose(t)                                         # y[:, :16] = u, as PyTorch's exporter writes it

After:
    y = Concat(u, Slice(x, 16, 20))

The indices may be computed: Unsqueeze(Slice(Range(0, size of the axis, 1), 0, 16), -1). Where they are all of the
first axis, as of the batch in ``y[:, :16] += u``, the result is what is written.

Skips: indices that aren't one run, axes of unknown size that aren't overwritten whole.
"""

import sys

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rewrite, Rule, Skip
from attn_export.exporter.cleanup.sizes import Size, shape_of, shape_sources, sizes_in
from attn_export.exporter.graph.facts import attribute, axes_of, constant, dims, is_op, is_read_once, made_by, scalar

# Slices up to here take whatever the axis has; an exporter writes the largest int32 or int64.
END = 2**31 - 1


def _match(node: ir.Node, context: Context) -> MatchResult:
    if is_op(node, "ScatterND"):
        return _overwritten(node)
    scatter = made_by(node.inputs[0], "ScatterND")
    if scatter is None or attribute(scatter, "reduction", "none") != "none":
        return None
    data, updates = made_by(scatter.inputs[0], "Transpose"), made_by(scatter.inputs[2], "Transpose")
    source, written = (None if turned is None else turned.inputs[0] for turned in (data, updates))
    if data is None or updates is None or source is None or written is None:
        return None
    order = tuple(attribute(data, "perm", ()))
    if tuple(attribute(updates, "perm", ())) != order or tuple(np.argsort(order)) != tuple(attribute(node, "perm", ())):
        return None
    (first, last), shape = _run(scatter.inputs[1]), dims(source)
    axis, size = order[0], shape[order[0]] if shape is not None else None
    if not isinstance(size, int) or not isinstance(last, int) or last <= first or not is_read_once(scatter.outputs[0]):
        return Skip("the indices aren't one run of an axis of known size, or the result has other readers")
    inputs, builder = _inputs(source, written, scatter.inputs[1]), Builder()
    parts = [_slice(builder, source, axis, 0, first), written, _slice(builder, source, axis, last, size)]
    kept = [part for part in parts if part is not None]
    return builder.last(node, inputs, "Concat", *kept, axis=axis)


def _overwritten(scatter: ir.Node) -> MatchResult:
    """All of the first axis is written."""
    data, indices, updates = scatter.inputs
    shape = shape_of(data) if data is not None else None
    if data is None or updates is None or not shape or attribute(scatter, "reduction", "none") != "none":
        return None
    if _run(indices) != (0, shape[0]):
        return None
    return Rewrite(_inputs(data, updates, indices), scatter.outputs[0], updates)


def _inputs(source: ir.Value, written: ir.Value, indices: ir.Value | None) -> tuple[ir.Value, ...]:
    """What the nodes before the rewrite read, constants aside."""
    limit = _limit(indices)
    sized = () if limit is None else (value for value in shape_sources(limit) if constant(value) is None)
    return tuple(dict.fromkeys((source, written, *sized)))


def _run(indices: ir.Value | None) -> tuple[int, Size]:
    """The first index and the one after the last; (0, 0) if they aren't one run."""
    array = constant(indices)
    if array is None:
        return _computed_run(indices)
    if array.ndim != 2 or array.shape[1] != 1 or not len(array):
        return 0, 0
    first = int(array[0, 0])
    is_run = first >= 0 and np.array_equal(array[:, 0], np.arange(first, first + len(array)))
    return (first, first + len(array)) if is_run else (0, 0)


def _computed_run(indices: ir.Value | None) -> tuple[int, Size]:
    """That of Unsqueeze(Slice(Range(0, size, 1), first, last), -1), with or without the slice."""
    limit, bounds = _limit(indices), _bounds(indices)
    sizes = sizes_in(limit)
    size = sizes[0] if sizes is not None and len(sizes) == 1 else None
    if size is None or bounds is None:
        return 0, 0
    if not isinstance(size, int):
        return (0, size) if bounds[0] == 0 and bounds[1] >= END else (0, 0)
    first, last, _ = slice(*bounds).indices(size)
    return first, last


def _listed(indices: ir.Value | None) -> ir.Value | None:
    """The numbers that become rows of one index each."""
    rows = made_by(indices, "Unsqueeze")
    return rows.inputs[0] if rows is not None and axes_of(rows) == (1,) else None


def _limit(indices: ir.Value | None) -> ir.Value | None:
    """Where the Range ends that counts from 0 in steps of 1."""
    numbers = _listed(indices)
    part = made_by(numbers, "Slice")
    counted = made_by(part.inputs[0] if part is not None else numbers, "Range")
    if counted is None or (scalar(counted.inputs[0]), scalar(counted.inputs[2])) != (0, 1):
        return None
    return counted.inputs[1]


def _bounds(indices: ir.Value | None) -> tuple[int, int] | None:
    """The part of the Range that is taken."""
    part = made_by(_listed(indices), "Slice")
    if part is None:
        return 0, sys.maxsize
    first, last, *others = (scalar(value) for value in part.inputs[1:])
    if first is None or last is None or others not in ([], [0], [0, 1]):
        return None
    return int(first), int(last)


def _slice(builder: Builder, source: ir.Value, axis: int, first: int, last: int) -> ir.Value | None:
    if first == last:
        return None
    shape = [*(dims(source) or ())]
    shape[axis] = last - first
    bounds = [
        builder.constant(np.array([number], dtype=np.int64), f"{name}_{number}")
        for name, number in (("first", first), ("last", last), ("axis", axis))
    ]
    return builder.add("Slice", source, *bounds, shape=tuple(shape), like=source)


RULE = Rule("concatenate what is scattered", frozenset({"Transpose", "ScatterND"}), _match)
