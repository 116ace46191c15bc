"""For integers on ONNX Runtime: global pools that it computes on them.

Before:
    y = ReduceMean(x, [2, 3])
    y = ReduceMax(x, [2, 3])                                 # or GlobalMaxPool(x)

After:
    y = GlobalAveragePool(x)
    y = MaxPool(x, kernel_shape=[H, W])

Skips: maxima of dynamic H and W.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.pools import pooled_kind
from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.facts import dims, is_op


def _match(node: ir.Node, _context: Context) -> MatchResult:
    source, kind = node.inputs[0], pooled_kind(node)
    size = (dims(source) or ())[2:]
    if source is None or not kind or is_op(node, "GlobalAveragePool"):
        return None
    if kind == "Mean":
        return Builder().last(node, (source,), "GlobalAveragePool", source)
    if all(isinstance(length, int) for length in size):
        return Builder().last(node, (source,), "MaxPool", source, kernel_shape=list(size))
    return Skip("H and W are dynamic")


RULE = Rule("pool integers", frozenset({"ReduceMean", "ReduceMax", "GlobalMaxPool"}), _match)
