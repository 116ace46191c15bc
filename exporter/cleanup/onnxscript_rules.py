"""onnxscript's own rules, taken through the same proof as ours.

The list names what convolutional networks meet; the operator on the left is where a rule begins to look.
"""

from collections.abc import Callable, Iterator

import onnx_ir as ir
from onnxscript.rewriter.pattern import RewriteRule
from onnxscript.rewriter.rules import common

from attn_export.exporter.cleanup.rule import Context, Proposal, Rewrite, Rule, Skip

RULES: tuple[tuple[str, str, RewriteRule], ...] = (
    ("Add", "drop an added 0", common.add_0_rule),
    ("Sub", "drop a subtracted 0", common.sub_0_rule),
    ("Mul", "drop a factor of 1", common.mul_by_1_rule),
    ("Div", "drop a divisor of 1", common.div_by_1_rule),
    ("Dropout", "drop dropout of nothing", common.dropout_zero_rule),
    ("Dropout", "drop dropout at inference", common.dropout_inference_rule),
    ("Cast", "drop a cast to the same type", common.no_op_cast_rule),
    ("Transpose", "drop a transpose to the same order", common.no_op_transpose_rule),
    ("Transpose", "merge two transposes", common.transpose_transpose_rule),
    ("Slice", "drop a slice of everything", common.collapse_slice_rule),
    ("Slice", "drop a slice to the same shape", common.collapse_slice2_rule),
    ("Expand", "drop an expand to the same shape", common.no_op_expand_rule),
    ("Relu", "merge Relu after Relu", common.successive_relu_rule),
    ("Relu", "merge Relu after Clip", common.successive_clip_relu_rule),
    ("Clip", "merge Clip after Relu", common.successive_relu_clip_rule),
    ("Clip", "merge Clip after Clip", common.successive_clip_rule),
    ("Max", "merge Min and Max into Clip", common.min_max_rule),
    ("Min", "merge Max and Min into Clip", common.max_min_rule),
    ("Conv", "merge Pad into convolution", common.fuse_pad_into_conv_rule),
    ("Conv", "drop a bias of zeros", common.remove_optional_bias_from_conv_rule),
    ("Gemm", "drop a linear bias of zeros", common.remove_optional_bias_from_gemm_rule),
    ("BatchNormalization", "fold BatchNorm into linear layer", common.fuse_batchnorm_into_gemm_rule),
    (
        "BatchNormalization",
        "fold BatchNorm into transposed convolution",
        common.fuse_batchnorm_into_conv_transpose_rule,
    ),
)


def rules_of_onnxscript(model: ir.Model) -> Iterator[Rule]:
    """Each as a rule of ours, bound to the model: that is what onnxscript's matcher wants to be called with."""
    for root, name, theirs in RULES:
        yield Rule(name, frozenset({root}), _adapted(theirs, model), recomputes_constants=True)


def _adapted(theirs: RewriteRule, model: ir.Model) -> Callable[[ir.Node, Context], Proposal]:
    def at(node: ir.Node, _: Context) -> Proposal:
        made = theirs.try_rewrite(model, model.graph, node)
        if made is None:
            return None
        if len(made.match.outputs) != 1:
            return Skip("it has several results")
        (old,), (new,) = made.match.outputs, made.new_outputs
        inside = {output for matched in made.match.nodes for output in matched.outputs}
        read = [value for matched in made.match.nodes for value in matched.inputs if value is not None]
        inputs = tuple(dict.fromkeys(v for v in read if v not in inside and v.const_value is None))
        if [made_node.op_type for made_node in made.new_nodes] == ["Identity"] and not old.is_graph_output():
            (identity,) = made.new_nodes
            (source,) = identity.inputs
            identity.replace_input_with(0, None)  # it was drawn in vain, and shall not count as a reader
            return Rewrite(inputs, old, source, ()) if source is not None else None
        return Rewrite(inputs, old, new, tuple(made.new_nodes))

    return at
