"""Finding attention gates in a graph.

A gate multiplies a feature map by values between 0 and 1, so it damps every fault that happened before it: a wrong
weight may go unavailable at the output. Before its sigmoid the same fault stands out.
"""

import onnx_ir as ir

from attn_export.exporter.artifacts import MODULE_KEY, Gate
from attn_export.exporter.graph.facts import DEFAULT_DOMAINS, GATE_ACTIVATIONS


def gates_of(model: ir.Model) -> tuple[Gate, ...]:
    """The gates of the main graph, in the order in which they are computed.

    A Sigmoid that is multiplied with its own input is the activation SiLU, and no gate.
    """
    found = []
    for node in model.graph:
        squashed = node.inputs[0] if node.inputs else None
        if node.op_type not in GATE_ACTIVATIONS or node.domain not in DEFAULT_DOMAINS or squashed is None:
            continue
        if any(user.op_type == "Mul" and squashed in user.inputs for user in node.outputs[0].consumers()):
            continue
        found.append(Gate(node.metadata_props.get(MODULE_KEY, ""), squashed.name or ""))
    return tuple(found)
