"""Reshape to a shape that is computed -> Reshape to a constant.

Before:
    shape = Concat(Gather(Shape(x), 0), [64], [1], [1])      # x.view(x.size(0), 64, 1, 1)
    y = Reshape(x, shape)

After:
    y = Reshape(x, [0, 64, 1, 1])                            # 0: as in the input

Kept away from: shapes with two axes that neither stay where they were nor are known.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Context, Drawing, Proposal, Refusal, Rule
from attn_export.exporter.cleanup.sizes import Size, shape_of, sizes_in
from attn_export.exporter.facts import attribute, constant, dims


def at(node: ir.Node, context: Context) -> Proposal:
    """See the module."""
    source, old = node.inputs[0], node.outputs[0]
    if source is None or constant(node.inputs[1]) is not None:
        return None
    sizes = sizes_in(node.inputs[1])
    if sizes is None:
        return Refusal("the shape is computed from more than shapes")
    zero_is_a_size = bool(attribute(node, "allowzero", 0))
    if zero_is_a_size and 0 in sizes:
        return Refusal("a size is 0")
    target = _target(sizes, () if zero_is_a_size else shape_of(source) or ())
    if target is None:
        return Refusal("more than one axis of the shape isn't known")
    drawing = Drawing()
    shape = old.shape if old.shape is not None else ir.Shape([n if n > 0 else None for n in target])
    constants = drawing.constant(np.array(target, dtype=np.int64), "shape_" + "x".join(map(str, target)))
    if dims(source) is None and 0 in target:
        return Refusal("the input's rank isn't known")
    new = drawing.add("Reshape", source, constants, shape=shape, like=old)
    return drawing.rewrite((source,), old, new)


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


RULE = Rule("resolve computed sizes", frozenset({"Reshape"}), at)
