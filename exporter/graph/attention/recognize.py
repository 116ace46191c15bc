"""Attention blocks, however they are written.

What makes a block is its flow of data, not its operators: a map is multiplied with something that went through a
sigmoid and was computed from that map alone. Which block it is, is told by what was summarized on the way: the places
of each channel (SE, ECA, the channel half of CBAM) or the channels of each place (the spatial half).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import UNKNOWN, AttentionBlock, Dim
from attn_export.exporter.graph.attention.paths import common_path
from attn_export.exporter.graph.clamps import CLAMPS, clamp_of
from attn_export.exporter.graph.facts import (
    GATE_ACTIVATIONS,
    attribute,
    axes_of,
    dims,
    is_op,
    made_by,
    scalar,
    stored,
)

# What may stand between the sigmoid and the multiplication.
CARRIERS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Transpose", "Cast", "Identity", "Resize", "Tile")
LARGEST_BLOCK = 128


@dataclass(frozen=True)
class Gating:
    """A multiplication by a gate, or by two.

    Attributes:
        product: the node that multiplies.
        source: the map that is gated.
        logits: what goes into each sigmoid.
        nodes: from ``source`` to ``product``, in the order in which they compute; the last is ``product``.
    """

    product: ir.Node
    source: ir.Value
    logits: tuple[ir.Value, ...]
    nodes: tuple[ir.Node, ...]


def find_blocks(model: ir.Model) -> tuple[AttentionBlock, ...]:
    """The blocks of the main graph, in the order in which they are computed."""
    order = {node: index for index, node in enumerate(model.graph)}
    found: list[tuple[Gating, AttentionBlock]] = []
    for node in model.graph:
        gating = _gating(node, order) if is_op(node, "Mul") else None
        if gating is None:
            continue
        block = _described(gating)
        if found and (joined := _joined(*found[-1], gating, block)) is not None:
            found[-1] = (gating, joined)
        else:
            found.append((gating, block))
    return tuple(block for _, block in found)


def _gating(product: ir.Node, order: dict[ir.Node, int]) -> Gating | None:
    """The multiplication as one by a gate, None if it is something else: SiLU, a scale, a gate from another map."""
    for source, gate in (product.inputs[:2], product.inputs[1::-1]):
        if source is None or gate is None:
            continue
        both, behind = None, [_squash_behind(gate)]
        if behind[0][0] is None and (both := made_by(gate, "Mul")) is not None:
            behind = [_squash_behind(value) for value in both.inputs]
        if any(logits is None or logits is source for logits, _ in behind):
            continue
        nodes = {both} if both is not None else set()
        for end, carriers in behind:
            inner = _between(_sources(source), end)
            if not inner:
                break
            nodes |= {*inner, *carriers}
        else:
            logits = tuple(end for end, _ in behind if end is not None)
            return Gating(product, source, logits, (*sorted(nodes, key=lambda n: order.get(n, -1)), product))
    return None


def _sources(gated: ir.Value) -> tuple[ir.Value, ...]:
    """What a gate may be computed from: the map it gates, or what a 1x1 convolution makes that map of."""
    expansion = made_by(gated, "Conv")
    if expansion is None or expansion.inputs[0] is None or (dims(expansion.inputs[1]) or ())[2:] != (1, 1):
        return (gated,)
    return gated, expansion.inputs[0]


def _squash_behind(gate: ir.Value | None) -> tuple[ir.Value | None, list[ir.Node]]:
    """What goes into the sigmoid that a gate comes from, and the nodes from there to the gate."""
    nodes: list[ir.Node] = []
    value = gate
    while (carrier := made_by(value, *CARRIERS, "Conv", "Slice")) is not None and len(nodes) < LARGEST_BLOCK:
        if (is_op(carrier, "Conv") and not _repeats(carrier)) or (is_op(carrier, "Slice") and not _keeps_all(carrier)):
            break
        nodes.append(carrier)
        if is_op(carrier, "Expand", "Reshape"):
            nodes += _between((), carrier.inputs[1])
        value = carrier.inputs[0]
    squash = made_by(value, *GATE_ACTIVATIONS)
    if squash is not None:
        return squash.inputs[0], [*nodes, squash]
    logits, parts = _hard_sigmoid_in_parts(value)
    return logits, [*nodes, *parts]


def _repeats(convolution: ir.Node) -> bool:
    """Whether a convolution does nothing but repeat one channel: weights of one, (C, 1, 1, 1)."""
    weight = stored(convolution.inputs[1])
    return weight is not None and weight.shape[1:] == (1, 1, 1) and bool((weight == 1).all())


def _keeps_all(piece: ir.Node) -> bool:
    """Whether a Slice gives back all that it reads, as the first of ``gate[:, :, None, None]`` does."""
    before, after = dims(piece.inputs[0]), dims(piece.outputs[0])
    steps = stored(piece.inputs[4]) if len(piece.inputs) > 4 and piece.inputs[4] is not None else np.ones(1)
    forward = steps is not None and bool((steps == 1).all())
    return forward and before is not None and None not in before and before == after


def _hard_sigmoid_in_parts(value: ir.Value | None) -> tuple[ir.Value | None, list[ir.Node]]:
    """relu6(x + 3) / 6, or clip(x / 6 + 0.5, 0, 1), the clip in one node or several: the x, and the nodes."""
    value, parts = _unscaled(value)
    low, high = -math.inf, math.inf
    while (node := made_by(value, *CLAMPS)) is not None and (clamp := clamp_of(node)) is not None:
        low, high = max(low, clamp.limits.low), min(high, clamp.limits.high)
        parts.append(node)
        value = clamp.source
    added = made_by(value, "Add")
    inner = [v for v in added.inputs if scalar(v) is None] if added is not None else []
    if added is None or len(inner) != 1 or low != 0 or not 0 < high < math.inf:
        return None, []
    source, scaled = _unscaled(inner[0])
    return source, [*parts, added, *scaled]


def _unscaled(value: ir.Value | None) -> tuple[ir.Value | None, list[ir.Node]]:
    """What is multiplied with a number or divided by one, and the node; the value itself if it isn't."""
    scaled = made_by(value, "Mul", "Div")
    source = [v for v in scaled.inputs if scalar(v) is None] if scaled is not None else []
    return (source[0], [scaled]) if scaled is not None and len(source) == 1 else (value, [])


def _between(sources: Sequence[ir.Value], result: ir.Value | None) -> list[ir.Node]:
    """The nodes that compute ``result`` from ``sources`` alone; none if anything else flows in, or too many take part.

    Without sources: those that compute it from shapes and constants.
    """
    nodes: dict[ir.Node, None] = {}
    waiting = [result]
    while waiting:
        value = waiting.pop()
        if value is None or any(value is source for source in sources) or stored(value) is not None:
            continue
        node = value.producer()
        if node is None or len(nodes) > LARGEST_BLOCK:
            return []
        if node not in nodes:
            nodes[node] = None
            if not is_op(node, "Shape"):  # a shape says nothing of what the map holds
                waiting += node.inputs
    return list(nodes)


def _described(gating: Gating) -> AttentionBlock:
    shape = dims(gating.source)
    channels = shape[1] if shape is not None and len(shape) > 1 and isinstance(shape[1], int) else None
    pooled, across, weights = _summaries(gating, channels)
    hidden, kernel = None, None
    if across and pooled and len(gating.logits) == 2:
        kind = "CBAM"
        kernel = next((w[-1] for w in weights if len(w) == 4 and w[-1] > 1), None)
    elif across and not pooled:
        kernel = next((w[-1] for w in weights if len(w) == 4 and w[-1] > 1), None)
        kind = "CBAM spatial" if kernel else UNKNOWN
    elif pooled and any(_slides_over_channels(w) for w in weights):
        kind, kernel = "ECA", next(max(w[2:]) for w in weights if _slides_over_channels(w))
    elif pooled and len(weights) > 1:
        kind = "CBAM channel" if pooled == {"Mean", "Max"} else "SE"
        widths = [size for w in weights for size in w[:2] if size != channels]
        hidden = min(widths, default=channels)
    else:
        kind = UNKNOWN
    return AttentionBlock(
        kind=kind,
        module_path=common_path(gating.nodes),
        channels=channels,
        reduction=max(1, channels // hidden) if channels and hidden else None,
        kernel=kernel,
        gates=tuple(logits.name or "" for logits in gating.logits),
        maps=(gating.product.outputs[0].name or "",),
        nodes=tuple(node.name or node.op_type for node in gating.nodes),
        nodes_before=len(gating.nodes),
    )


def _slides_over_channels(weight: tuple[int, ...]) -> bool:
    """Whether a weight is that of a convolution with one channel in and out, over (N, 1, C) or (N, 1, C, 1)."""
    return weight[:2] == (1, 1) and len(weight) > 2 and max(weight[2:]) > 1


def _is_over_channels(reduction: ir.Node, channels: Dim) -> bool:
    """Over axis 1 of a map, or over the last axis of (N, places, C)."""
    shape, axes = dims(reduction.inputs[0]) or (), axes_of(reduction)
    if axes == (1,):
        return True
    flat = made_by(reduction.inputs[0], "Reshape")
    turned = made_by(flat.inputs[0], "Transpose") if flat is not None else None
    last = turned is not None and tuple(attribute(turned, "perm", ())) == (0, 2, 3, 1)
    return last and len(shape) == 3 and axes == (2,) and shape[2] == channels


def _summaries(gating: Gating, channels: Dim) -> tuple[set[str], set[str], list[tuple[int, ...]]]:
    """How places are pooled, how channels are, and the shapes of the weights in between."""
    pooled: set[str] = set()
    across: set[str] = set()
    weights: list[tuple[int, ...]] = []
    for node in gating.nodes:
        kind = (
            node.op_type.removeprefix("Reduce").removeprefix("Global").removesuffix("Pool").replace("Average", "Mean")
        )
        if kind in ("Mean", "Max") and is_op(node, f"Reduce{kind}"):
            (across if _is_over_channels(node, channels) else pooled).add(kind)
        elif kind in ("Mean", "Max") and node.op_type.endswith("Pool"):
            over_channels = attribute(node, "kernel_shape", None) and (dims(node.inputs[0]) or (0, 0))[1] == 1
            (across if over_channels else pooled).add(kind)
        elif is_op(node, "Conv", "Gemm", "MatMul"):
            weight = stored(node.inputs[1])
            if weight is not None and weight.ndim > 1:
                weights.append(tuple(weight.shape))
    return pooled, across, weights


def _joined(earlier: Gating, channel: AttentionBlock, gating: Gating, spatial: AttentionBlock) -> AttentionBlock | None:
    """CBAM: a channel gate, then a spatial gate of what it let through; None if the two have nothing to do with it."""
    within = earlier.product in gating.nodes  # both gates are multiplied first, then the map
    if not within and not (
        (channel.kind, spatial.kind) == ("CBAM channel", "CBAM spatial") and earlier.product.outputs[0] is gating.source
    ):
        return None
    nodes = tuple(dict.fromkeys((*earlier.nodes, *gating.nodes)))
    return replace(
        channel,
        kind=spatial.kind if within else "CBAM",
        module_path=common_path(nodes),
        kernel=spatial.kernel,
        gates=tuple(dict.fromkeys((*channel.gates, *spatial.gates))),
        maps=(*channel.maps, *spatial.maps),
        nodes=tuple(node.name or node.op_type for node in nodes),
        nodes_before=len(nodes),
    )
