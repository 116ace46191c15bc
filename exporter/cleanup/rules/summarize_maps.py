"""For integers on ONNX Runtime: the inverse of `summarize_channels_last`.

Before:
    t = Reshape(Transpose(x, [0, 2, 3, 1]), [0, H * W, C])
    s = Reshape(Concat(ReduceMean(t, [2]), ReduceMax(t, [2]), axis=1), [0, 2, H, W])

After:
    s = Concat(ReduceMean(x, [1]), ReduceMax(x, [1]), axis=1)        # (N, 2, H, W), in either order

Integer maps are channels-last already, and the reductions of the map itself stay among them.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule
from attn_export.exporter.graph.facts import attribute, axes_of, dims, made_by


def _match(node: ir.Node, context: Context) -> MatchResult:
    both = made_by(node.inputs[0], "Concat")
    reductions = [made_by(value, "ReduceMean", "ReduceMax") for value in both.inputs] if both is not None else []
    sources = [_map_of(reduction) for reduction in reductions]
    source = sources[0] if len(sources) == 2 and sources[0] is sources[1] else None
    if source is None:
        return None
    batch, _, *size = dims(source) or (None,) * 4
    if dims(node.outputs[0]) != (batch, 2, *size):
        return None
    builder = Builder()
    summaries = [
        builder.reduce(
            reduction.op_type.removeprefix("Reduce"),
            source,
            (1,),
            opset=context.opset,
            keepdims=True,
            shape=(batch, 1, *size),
        )
        for reduction in reductions
        if reduction is not None
    ]
    return builder.last(node, (source,), "Concat", *summaries, axis=1)


def _map_of(reduction: ir.Node | None) -> ir.Value | None:
    """The map (N, C, H, W) whose channels are reduced in the form (N, H * W, C)."""
    flat = made_by(reduction.inputs[0], "Reshape") if reduction is not None and axes_of(reduction) == (2,) else None
    nhwc = made_by(flat.inputs[0], "Transpose") if flat is not None else None
    return nhwc.inputs[0] if nhwc is not None and list(attribute(nhwc, "perm", [])) == [0, 2, 3, 1] else None


RULE = Rule("summarize maps", frozenset({"Reshape"}), _match)
