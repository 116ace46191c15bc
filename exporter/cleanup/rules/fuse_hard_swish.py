"""A hard sigmoid times its own input -> HardSwish, from opset 14.

Before:
    y = Mul(x, HardSigmoid(x, alpha=1/6, beta=0.5))

After:
    y = HardSwish(x)

https://onnx.ai/onnx/operators/onnx__HardSwish.html

Skips: older opsets, other slopes, a hard sigmoid with other readers.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule, Skip
from attn_export.exporter.graph.facts import attribute, is_read_once, made_by, other_input

FIRST_OPSET = 14
CLOSE = 1e-6


def _match(node: ir.Node, context: Context) -> MatchResult:
    for gate in node.inputs:
        activation = made_by(gate, "HardSigmoid")
        if activation is None or gate is None or activation.inputs[0] is not other_input(node, gate):
            continue
        source = activation.inputs[0]
        slope, middle = attribute(activation, "alpha", 0.2), attribute(activation, "beta", 0.5)
        if abs(slope - 1 / 6) > CLOSE or abs(middle - 0.5) > CLOSE:
            return Skip(f"alpha is {slope:.4g} and beta {middle:.4g}, not 1/6 and 0.5")
        if context.opset < FIRST_OPSET:
            return Skip(f"HardSwish needs opset {FIRST_OPSET}, the file has {context.opset}")
        if not is_read_once(gate) or source is None:
            return Skip("the hard sigmoid has other readers")
        return Builder().last(node, (source,), "HardSwish", source)
    return None


RULE = Rule("fuse the hard swish", frozenset({"Mul"}), _match, recomputes_constants=True)
