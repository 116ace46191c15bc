"""onnxscript's rules for operators of convolutional networks, verified like ours. Each entry starts with its root."""

from collections.abc import Callable, Iterator

import onnx_ir as ir
from onnxscript.rewriter.pattern import RewriteRule
from onnxscript.rewriter.rules import common

from attn_export.exporter.cleanup.rule import Context, MatchResult, Rewrite, Rule, Skip
from attn_export.exporter.errors import first_line

RULES: tuple[tuple[str, str, RewriteRule], ...] = (
    ("Add", "drop an added 0", common.add_0_rule),
    ("Sub", "drop a subtracted 0", common.sub_0_rule),
    ("Mul", "drop a factor of 1", common.mul_by_1_rule),
    ("Div", "drop a divisor of 1", common.div_by_1_rule),
    ("Dropout", "drop dropout with ratio 0", common.dropout_zero_rule),
    ("Dropout", "drop dropout at inference", common.dropout_inference_rule),
    ("Cast", "drop a cast to the same type", common.no_op_cast_rule),
    ("Transpose", "drop a transpose to the same order", common.no_op_transpose_rule),
    ("Transpose", "merge two transposes", common.transpose_transpose_rule),
    ("Slice", "drop a slice of the whole axis", common.collapse_slice_rule),
    ("Slice", "drop a slice to the same shape", common.collapse_slice2_rule),
    ("Expand", "drop an expand to the same shape", common.no_op_expand_rule),
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


def onnxscript_rules(model: ir.Model) -> Iterator[Rule]:
    """Wrap each as a `Rule`, bound to the model as onnxscript's matcher requires."""
    for root, name, rule in RULES:
        yield Rule(name, frozenset({root}), _adapted(rule, model), recomputes_constants=True)


def _adapted(rule: RewriteRule, model: ir.Model) -> Callable[[ir.Node, Context], MatchResult]:
    def match(node: ir.Node, _: Context) -> MatchResult:
        try:
            result = rule.try_rewrite(model, model.graph, node)
        except Exception as error:  # noqa: BLE001 - a rule that fails at a node has changed nothing
            return Skip(f"onnxscript's rule fails: {first_line(error)}")
        if result is None:
            return None
        if len(result.match.outputs) != 1:
            return Skip("the match has several outputs")
        (old,), (new,) = result.match.outputs, result.new_outputs
        inside = {output for matched in result.match.nodes for output in matched.outputs}
        read = [value for matched in result.match.nodes for value in matched.inputs if value is not None]
        inputs = tuple(dict.fromkeys(v for v in read if v not in inside and v.const_value is None))
        if [new_node.op_type for new_node in result.new_nodes] == ["Identity"] and not old.is_graph_output():
            (identity,) = result.new_nodes
            (source,) = identity.inputs
            identity.replace_input_with(0, None)  # the unused node must not count as a reader
            return Rewrite(inputs, old, source, ()) if source is not None else None
        return Rewrite(inputs, old, new, tuple(result.new_nodes))

    return match
