"""Whether a vector of channels is on its way to become a gate."""

import onnx_ir as ir

from attn_export.exporter.cleanup.views import VIEWS
from attn_export.exporter.graph.facts import dims, is_op, users

ACTIVATIONS = frozenset(
    "Relu Sigmoid HardSigmoid HardSwish Tanh LeakyRelu Elu Clip Cast Identity Gelu Softplus".split()
)
ON_THE_WAY = ACTIVATIONS | frozenset("Gemm MatMul Add Sub Mul Div BatchNormalization Min Max".split())
FARTHEST = 24


def ends_in_gate(value: ir.Value) -> bool:
    """Whether a (N, C) is given the shape (N, C, 1, 1) again, after layers and activations."""
    waiting, seen = [value], {value}
    for _ in range(FARTHEST):
        if not waiting:
            return False
        for node in users(waiting.pop()):
            result = node.outputs[0]
            if is_op(node, *VIEWS):
                if (dims(result) or ())[2:] == (1, 1):
                    return True
            elif not is_op(node, *ON_THE_WAY):
                continue
            if result not in seen and len(dims(result) or ()) in (2, 3):
                seen.add(result)
                waiting.append(result)
    return False
