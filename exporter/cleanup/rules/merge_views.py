"""Views of views -> one view, or none.

Before:
    y = Unsqueeze(Unsqueeze(Flatten(x), 2), 3)               # x: (N, C, 1, 1)

After:
    y = x                                                    # the shape of x

Skips: shapes that no constant can express.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rewrite, Rule, Skip
from attn_export.exporter.cleanup.views import VIEWS, is_view, reshape_like, same_shape
from attn_export.exporter.graph.facts import made_by


def _match(node: ir.Node, context: Context) -> MatchResult:
    source, old = node.inputs[0], node.outputs[0]
    if source is None or not is_view(node):
        return None
    if old.shape is not None and same_shape(source, old):
        return Rewrite((source,), old, source)
    before = made_by(source, *VIEWS)
    if before is None or not is_view(before) or before.inputs[0] is None:
        return None
    origin = before.inputs[0]
    if old.shape is not None and same_shape(origin, old):
        return Rewrite((origin,), old, origin)
    builder = Builder()
    new = reshape_like(builder, origin, old)
    if new is None:
        return Skip("no constant can express the final shape")
    return builder.rewrite((origin,), old, new)


RULE = Rule("merge views", frozenset(VIEWS), _match)
