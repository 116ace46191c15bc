"""Views: operators that change the shape of a tensor and nothing else."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import Dim
from attn_export.exporter.cleanup.rule import Builder
from attn_export.exporter.graph.facts import axes_of, constant, dims, is_op
from attn_export.exporter.records.arrays import Array

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def is_view(node: ir.Node | None) -> bool:
    """Whether the node is one of `VIEWS` with a constant shape or axes."""
    if node is None or not is_op(node, *VIEWS):
        return False
    if is_op(node, "Reshape"):
        return constant(node.inputs[1]) is not None
    return is_op(node, "Flatten") or axes_of(node) is not None


def source_of(value: ir.Value | None) -> ir.Value | None:
    """The value under any number of views; the value itself if it isn't a view."""
    while value is not None and is_view(value.producer()):
        value = value.producer().inputs[0]  # type: ignore[union-attr]
    return value


def same_shape(first: ir.Value, second: ir.Value) -> bool:
    """Whether two views of the same tensor provably have the same shape."""
    a, b = dims(first), dims(second)
    return a is not None and b is not None and same_sizes(a, b)


def same_sizes(first: Sequence[Dim], second: Sequence[Dim]) -> bool:
    """Whether two shapes with the same number of elements are provably equal.

    One axis may be unknown in both: the number of elements determines it.
    """
    if len(first) != len(second):
        return False
    differing = [(a, b) for a, b in zip(first, second, strict=True) if a != b or a is None]
    return len(differing) <= 1 and not any(isinstance(a, int) and isinstance(b, int) for a, b in differing)


def reshape_target(source: ir.Value, shape: ir.Value) -> Array | None:
    """The constant with which Reshape brings ``source`` to the shape of ``shape``; None if no constant can.

    An unchanged axis is 0 ("as in the input"), one other unknown axis may be -1 ("the rest").
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
    # An unnamed axis needs -1, which only one axis may have.
    return np.array(target, dtype=np.int64) if target.count(-1) <= 1 else None


def reshape_like(builder: Builder, source: ir.Value, like: ir.Value) -> ir.Value | None:
    """``source`` in the shape of ``like``; None if no constant can express it."""
    target = reshape_target(source, like)
    if target is None:
        return None
    return builder.add(
        "Reshape", source, builder.constant(target, "shape_" + "x".join(map(str, target))), shape=like.shape, like=like
    )
