"""Finding attention gates in a graph.

A gate multiplies a feature map by values between 0 and 1, so it damps every fault that happened before it: a wrong
weight may go unavailable at the output. Before its sigmoid the same fault stands out.
`attn_export.exporter.network.gates` finds the same gates in PyTorch.
"""

import onnx_ir as ir

from attn_export.exporter.artifacts import Gate
from attn_export.exporter.graph.attention.activations import activation_at, unscaled
from attn_export.exporter.graph.attention.paths import module_path
from attn_export.exporter.graph.clamps import CLAMPS
from attn_export.exporter.graph.facts import GATE_ACTIVATIONS, is_op, stored

# The last operator of a sigmoid or hard sigmoid in parts.
ENDS = (*GATE_ACTIVATIONS, *CLAMPS, "Add", "Mul", "Div", "Reciprocal")


def gates_of(model: ir.Model) -> tuple[Gate, ...]:
    """The gates of the main graph, in the order in which they are computed.

    What is multiplied with its own logits is the activation Swish, or hard Swish, and no gate.
    """
    found: dict[ir.Node, Gate] = {}
    for node in model.graph:
        activation = activation_at(node.outputs[0]) if is_op(node, *ENDS) else None
        if activation is None or not found.keys().isdisjoint(activation.nodes[1:]):
            continue
        (logits,) = activation.logits
        if stored(logits) is None and not _is_swish(node.outputs[0], (logits, unscaled(logits)[0])):
            found[node] = Gate(module_path(node), logits.name or "")
    return tuple(found.values())


def _is_swish(value: ir.Value, logits: tuple[ir.Value | None, ...]) -> bool:
    """Whether a gate's value, or a multiple of it, is multiplied with its logits."""
    for user in value.consumers():
        if is_op(user, "Mul", "Div") and unscaled(user.outputs[0])[0] is value:
            if _is_swish(user.outputs[0], logits):
                return True
        elif is_op(user, "Mul") and any(factor is not None and factor in logits for factor in user.inputs):
            return True
    return False
