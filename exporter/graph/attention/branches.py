"""Attention over branches: each channel's branches are weighed by a softmax and added.

    y = ReduceSum(maps * softmax(layers(pool(sum of maps))), axis of the branches)      # maps: (N, branches, C, H, W)

Selective kernels: Li et al., https://arxiv.org/abs/1903.06586. Split attention (ResNeSt): Zhang et al.,
https://arxiv.org/abs/2004.08955, whose branches are groups of one convolution's channels.
"""

import onnx_ir as ir

from attn_export.exporter.graph.attention.activations import CARRIERS, Activation
from attn_export.exporter.graph.facts import axes_of, dims, is_op, made_by, only_user

SELECTIVE, SPLIT = "selective kernels", "split attention"
BRANCH_AXIS = 1


def softmax_of_branches(product: ir.Node, gate: ir.Value) -> Activation | None:
    """The softmax behind a gate of branches that are then added; None for every other product."""
    summed, shape = only_user(product.outputs[0]), dims(gate) or ()
    if summed is None or not is_op(summed, "ReduceSum") or axes_of(summed) != (BRANCH_AXIS,):
        return None
    if len(shape) != 5 or shape[3:] != (1, 1) or shape[BRANCH_AXIS] == 1:
        return None
    nodes: list[ir.Node] = []
    value: ir.Value | None = gate
    while (node := made_by(value, *CARRIERS)) is not None:
        nodes.append(node)
        value = node.inputs[0]
    softmax = made_by(value, "Softmax")
    logits = softmax.inputs[0] if softmax is not None else None
    return None if softmax is None or logits is None else Activation((logits,), (*nodes, softmax))


def kind_of_branches(maps: ir.Value) -> str:
    """Branches that were computed apart are put together; those of one convolution are a view of its result."""
    return SELECTIVE if made_by(maps, "Concat") is not None else SPLIT
