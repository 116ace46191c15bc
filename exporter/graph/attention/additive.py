"""U-Net's additive attention gate: Oktay et al., "Attention U-Net", https://arxiv.org/abs/1804.03999.

    gate = sigmoid(psi(relu(W_x * x + W_g * g)))

x is the map that is gated, g a coarser map, psi a convolution to one channel.
"""

import onnx_ir as ir

from attn_export.exporter.graph.facts import dims, is_op


def additive_gate(logits: ir.Value, gated: ir.Value) -> list[ir.Node]:
    """The nodes of the gate, its layers included; none if the logits aren't computed in this way."""
    psi = _layer_behind(logits)
    if psi is None or (dims(psi[-1].inputs[1]) or (0,))[0] != 1:
        return []
    activation = _behind(psi[-1].inputs[0], "Relu", "LeakyRelu", "Elu", "Tanh")
    added = _behind(activation.inputs[0], "Add") if activation is not None else None
    if activation is None or added is None:
        return []
    sides = [_layer_behind(value) for value in added.inputs]
    if any(side is None for side in sides):
        return []
    layers = [side[-1] for side in sides if side is not None]
    sources = [layer.inputs[0] for layer in layers]
    if gated not in sources or sources[0] is sources[1]:
        return []
    return [*psi, activation, added, *(node for side in sides if side is not None for node in side)]


def _behind(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and is_op(node, *op_types) else None


def _layer_behind(value: ir.Value | None) -> list[ir.Node] | None:
    """The nodes back to a convolution, normalization and resampling included."""
    nodes = []
    while (node := _behind(value, "BatchNormalization", "Resize", "Upsample", "Identity", "Cast")) is not None:
        nodes.append(node)
        value = node.inputs[0]
    layer = _behind(value, "Conv", "ConvTranspose")
    return None if layer is None else [*nodes, layer]
