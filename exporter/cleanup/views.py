"""Operators that give the same numbers, in the same order, another shape: views."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import Dim
from attn_export.exporter.cleanup.rule import Drawing
from attn_export.exporter.graph.facts import axes_of, constant, dims, is_op

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def is_view(node: ir.Node | None) -> bool:
    """Whether the node is one of `VIEWS` and how it views is written in the graph."""
    if node is None or not is_op(node, *VIEWS):
        return False
    if is_op(node, "Reshape"):
        return constant(node.inputs[1]) is not None
    return is_op(node, "Flatten") or axes_of(node) is not None


def source_of(value: ir.Value | None) -> ir.Value | None:
    """What a value is a view of, through any number of views; the value itself if it is none."""
    while value is not None and is_view(value.producer()):
        value = value.producer().inputs[0]  # type: ignore[union-attr]
    return value


def same_shape(first: ir.Value, second: ir.Value) -> bool:
    """Whether two views of the same numbers surely have the same shape."""
    a, b = dims(first), dims(second)
    return a is not None and b is not None and same_sizes(a, b)


def same_sizes(first: Sequence[Dim], second: Sequence[Dim]) -> bool:
    """Whether two shapes of as many elements are surely the same.

    One axis may be unknown in both: the number of elements then decides it.
    """
    if len(first) != len(second):
        return False
    differing = [(a, b) for a, b in zip(first, second, strict=True) if a != b or a is None]
    return len(differing) <= 1 and not any(isinstance(a, int) and isinstance(b, int) for a, b in differing)


def reshape_target(source: ir.Value, shape: ir.Value) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    """The constant that makes Reshape give ``source`` the shape of ``shape``, where a constant can.

    An axis that stays where it was is 0 ("as in the input"), one other unknown axis may be -1 ("what is left").
    https://onnx.ai/onnx/operators/onnx__Reshape.html
    """
    wanted, have = dims(shape), dims(source)
    if wanted is None or have is None:
        return None
    target: list[int] = []
    for axis, size in enumerate(wanted):
        if isinstance(size, int):
            if size == 0:
                return None
            target.append(size)
        elif size is not None and axis < len(have) and have[axis] == size:
            target.append(0)
        else:
            target.append(-1)
    # An axis that isn't named can be kept only if it is the one that the others determine.
    return np.array(target, dtype=np.int64) if target.count(-1) <= 1 else None


def reshaped(drawing: Drawing, source: ir.Value, like: ir.Value) -> ir.Value | None:
    """``source`` in the shape of ``like``; None where no constant says it."""
    target = reshape_target(source, like)
    if target is None:
        return None
    return drawing.add(
        "Reshape", source, drawing.constant(target, "shape_" + "x".join(map(str, target))), shape=like.shape, like=like
    )
