"""Shape arithmetic whose result is known -> a constant.

Before:
    h = Gather(Shape(x), 2)                                  # x: (N, C, 14, 14)

After:
    h = 14

Skips: what only other shape arithmetic reads, results with dynamic axes.
"""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rewrite, Rule
from attn_export.exporter.cleanup.sizes import SHAPE_ARITHMETIC, shape_sources, sizes_in
from attn_export.exporter.graph.facts import WHOLE, is_op, rank, users


def _match(node: ir.Node, context: Context) -> MatchResult:
    old = node.outputs[0]
    if old.dtype not in WHOLE or old.dtype is None or old.is_graph_output() or rank(old) not in (0, 1):
        return None
    if all(is_op(reader, *RULE.roots) and reader.outputs[0].dtype in WHOLE for reader in users(old)):
        return None
    sizes = sizes_in(old)
    if sizes is None or not all(isinstance(size, int) for size in sizes):
        return None
    array = np.array(sizes, dtype=old.dtype.numpy()).reshape((len(sizes),) if rank(old) else ())
    return Rewrite(shape_sources(old), old, Builder().constant(array, "size_" + "x".join(map(str, sizes))))


RULE = Rule("fold known sizes", SHAPE_ARITHMETIC - {"Reshape"}, _match)
