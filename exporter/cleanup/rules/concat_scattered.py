"""A run of an axis written with ScatterND -> Concat of what stays and what is written.

Before:
    t = ScatterND(Transpose(x), [[0], [1], ..., [15]], Transpose(u))
    y = Transpose(t)                                         # y[:, :16] = u, as PyTorch's exporter writes it

After:
    y = Concat(u, Slice(x, 16, 20))                          # or u, if it takes the whole axis

Skips: indices that aren't one run, axes of unknown size.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rewrite, Rule, Skip
from attn_export.exporter.graph.facts import attribute, constant, dims, is_read_once, made_by


def _match(node: ir.Node, context: Context) -> MatchResult:
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
    if last <= first or not isinstance(size, int) or not is_read_once(scatter.outputs[0]):
        return Skip("the indices aren't one run of an axis of known size, or the result has other readers")
    old = node.outputs[0]
    if last - first == size:
        return Rewrite((source, written), old, written)
    builder = Builder()
    parts = [_slice(builder, source, axis, 0, first), written, _slice(builder, source, axis, last, size)]
    kept = [part for part in parts if part is not None]
    return builder.rewrite((source, written), old, builder.add("Concat", *kept, shape=old.shape, like=old, axis=axis))


def _run(indices: ir.Value | None) -> tuple[int, int]:
    """The first index and the one after the last; (0, 0) if they aren't one run."""
    array = constant(indices)
    if array is None or array.ndim != 2 or array.shape[1] != 1 or not len(array):
        return 0, 0
    first = int(array[0, 0])
    is_run = first >= 0 and np.array_equal(array[:, 0], np.arange(first, first + len(array)))
    return (first, first + len(array)) if is_run else (0, 0)


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


RULE = Rule("concatenate what is scattered", frozenset({"Transpose"}), _match)
