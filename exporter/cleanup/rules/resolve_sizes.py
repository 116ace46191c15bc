"""Reshape to a computed shape -> Reshape to a constant.

Before:
    shape = Concat(Gather(Shape(x), 0), [64], [1], [1])      # x.view(x.size(0), 64, 1, 1)
    y = Reshape(x, shape)

After:
    y = Reshape(x, [0, 64, 1, 1])                            # 0: as in the input

Skips: shapes with two axes that are neither constant nor unchanged.
"""

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import Dim
from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.cleanup.sizes import Size, shape_of, sizes_in
from attn_export.exporter.graph.facts import attribute, constant, dims


def _match(node: ir.Node, context: Context) -> MatchResult:
    source, old = node.inputs[0], node.outputs[0]
    if source is None or constant(node.inputs[1]) is not None:
        return None
    sizes = sizes_in(node.inputs[1])
    if sizes is None:
        return Skip("the shape depends on data")
    allow_zero = bool(attribute(node, "allowzero", 0))
    if allow_zero and 0 in sizes:
        return Skip("the shape has a size of 0")
    target = _target(sizes, () if allow_zero else shape_of(source) or ())
    if target is None:
        return Skip("the shape has more than one unknown axis")
    builder = Builder()
    shape = _shape(target, dims(source), dims(old))
    constants = builder.constant(np.array(target, dtype=np.int64), "shape_" + "x".join(map(str, target)))
    if dims(source) is None and 0 in target:
        return Skip("the input has an unknown rank")
    new = builder.add("Reshape", source, constants, shape=tuple(shape), like=old)
    return builder.rewrite((source,), old, new)


def _target(sizes: tuple[Size | None, ...], have: tuple[Size | None, ...]) -> list[int] | None:
    target = []
    for axis, size in enumerate(sizes):
        if isinstance(size, int):
            target.append(size)
        elif size is not None and axis < len(have) and have[axis] == size:
            target.append(0)
        else:
            target.append(-1)
    return target if target.count(-1) <= 1 else None


def _shape(target: list[int], have: Sequence[Dim] | None, declared: Sequence[Dim] | None) -> list[Dim]:
    """The shape of the result; an open axis follows from the number of elements or from the declared shape."""
    shape: list[Dim] = [n if n > 0 else None for n in target]
    for axis, size in enumerate(target):
        if size == 0 and have is not None and axis < len(have):
            shape[axis] = have[axis]
    if -1 in target and have is not None:
        left = [d for axis, d in enumerate(have) if axis >= len(target) or target[axis] != 0]
        given = math.prod(n for n in target if n > 0)
        if all(isinstance(d, int) for d in left):
            shape[target.index(-1)] = math.prod(d for d in left if isinstance(d, int)) // given
    if declared is not None:
        shape = [d if d is not None else known for d, known in zip(shape, declared, strict=True)]
    return shape


RULE = Rule("resolve computed sizes", frozenset({"Reshape"}), _match)
