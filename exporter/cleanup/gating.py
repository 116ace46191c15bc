"""Detects vectors of channels that become a gate."""

import onnx_ir as ir

from attn_export.exporter.cleanup.views import VIEWS
from attn_export.exporter.graph.facts import dims, is_op, users

ACTIVATIONS = frozenset(
    "Relu Sigmoid HardSigmoid HardSwish Tanh LeakyRelu Elu Clip Cast Identity Gelu Softplus".split()
)
LAYERS_AND_ACTIVATIONS = ACTIVATIONS | frozenset("Gemm MatMul Add Sub Mul Div BatchNormalization Min Max".split())
MAX_STEPS = 24


def ends_in_gate(value: ir.Value) -> bool:
    """Whether layers and activations lead from a (N, C) back to the shape (N, C, 1, 1)."""
    waiting, seen = [value], {value}
    for _ in range(MAX_STEPS):
        if not waiting:
            return False
        for node in users(waiting.pop()):
            result = node.outputs[0]
            if is_op(node, *VIEWS):
                if (dims(result) or ())[2:] == (1, 1):
                    return True
            elif not is_op(node, *LAYERS_AND_ACTIVATIONS):
                continue
            if result not in seen and len(dims(result) or ()) in (2, 3):
                seen.add(result)
                waiting.append(result)
    return False
