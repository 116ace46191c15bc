"""A hard sigmoid times its own input -> HardSwish, from opset 14.

Before:
    y = Mul(x, HardSigmoid(x, alpha=1/6, beta=0.5))

After:
    y = HardSwish(x)

https://onnx.ai/onnx/operators/onnx__HardSwish.html

Kept away from: older opsets, another slope, a hard sigmoid that is read elsewhere.
"""

import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Context, Drawing, Proposal, Rule, Skip
from attn_export.exporter.graph.facts import attribute, is_read_once, made_by, other_input

FIRST_OPSET = 14
CLOSE = 1e-6


def at(node: ir.Node, context: Context) -> Proposal:
    """See the module."""
    for squashed in node.inputs:
        squash = made_by(squashed, "HardSigmoid")
        if squash is None or squashed is None or squash.inputs[0] is not other_input(node, squashed):
            continue
        source = squash.inputs[0]
        slope, middle = attribute(squash, "alpha", 0.2), attribute(squash, "beta", 0.5)
        if abs(slope - 1 / 6) > CLOSE or abs(middle - 0.5) > CLOSE:
            return Skip(f"its slope is {slope:.4g} and its middle {middle:.4g}, not 1/6 and 0.5")
        if context.opset < FIRST_OPSET:
            return Skip(f"opset {context.opset} has no HardSwish")
        if not is_read_once(squashed) or source is None:
            return Skip("the hard sigmoid is read elsewhere too")
        drawing, old = Drawing(), node.outputs[0]
        return drawing.rewrite((source,), old, drawing.add("HardSwish", source, shape=old.shape, like=old))
    return None


RULE = Rule("fuse the hard swish", frozenset({"Mul"}), at, recomputes_constants=True)
