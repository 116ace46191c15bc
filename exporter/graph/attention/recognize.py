"""Attention blocks, however they are written.

What makes a block is its flow of data, not its operators: a map is multiplied with something that went through a
sigmoid and was computed from that map alone. Its kind follows from what it summarizes on the way: the places of each
channel (SE, ECA, the channel half of CBAM), the channels of each place (the spatial half), rows and columns (coordinate
attention), both and nothing (BAM). U-Net's attention gate reads another map as well, and is told by its layers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from attn_export.exporter.artifacts import UNKNOWN, AttentionBlock, Dim
from attn_export.exporter.graph.attention.additive import additive_gate
from attn_export.exporter.graph.attention.paths import common_path
from attn_export.exporter.graph.attention.squash import QUANTIZING, Squash, between, squash_behind
from attn_export.exporter.graph.attention.summaries import Over, Summaries, pools_are_combined, summaries_of
from attn_export.exporter.graph.facts import attribute, dims, is_op, made_by, users

SPATIAL, CHANNEL, COORDINATE = "CBAM spatial", "CBAM channel", "coordinate attention"
# Gates of channels that are one half of a CBAM if the other half is a spatial gate of the same map.
CHANNEL_HALVES = (CHANNEL, "SE", "SE (one layer)")
# What computes each number of a map from that number alone: such a gate is an activation, like SiLU or GELU.
ELEMENTWISE = frozenset(
    "Abs Add Cast Clip Div Elu Erf Exp HardSigmoid Identity LeakyRelu Log Max Min Mul Neg Pow Reciprocal Relu Sigmoid "
    "Softplus Sqrt Sub Tanh QuantizeLinear DequantizeLinear".split()
)


@dataclass(frozen=True)
class Gating:
    """A multiplication by a gate, or by two.

    Attributes:
        product: the node that multiplies.
        source: the map that is gated.
        logits: what goes into each sigmoid.
        nodes: from ``source`` to ``product``, in the order in which they compute; the last is ``product``.
        origin: the map that the gate is computed from: ``source``, or what an earlier gate was applied to.
        kind: if the layers alone tell it, otherwise empty.
    """

    product: ir.Node
    source: ir.Value
    logits: tuple[ir.Value, ...]
    nodes: tuple[ir.Node, ...]
    origin: ir.Value
    kind: str = ""


def find_blocks(model: ir.Model) -> tuple[AttentionBlock, ...]:
    """The blocks of the main graph, in the order in which they are computed."""
    order = {node: index for index, node in enumerate(model.graph)}
    found: list[tuple[Gating, AttentionBlock]] = []
    gated: dict[ir.Value, Gating] = {}
    for node in model.graph:
        gating = _gating(node, order, gated) if is_op(node, "Mul", "Einsum") else None
        if gating is None:
            continue
        gated[node.outputs[0]] = gating
        block = _described(gating)
        if found and (joined := _joined(*found[-1], gating, block, order)) is not None:
            found[-1] = (joined[0], joined[1])
        else:
            found.append((gating, block))
    return tuple(block for _, block in found)


def _gating(product: ir.Node, order: dict[ir.Node, int], gated: Mapping[ir.Value, Gating]) -> Gating | None:
    """The multiplication as one by a gate, None if it is something else: SiLU, a scale, a gate from another map."""
    for source, gate in (product.inputs[:2], product.inputs[1::-1]):
        if source is None or gate is None or not _keeps_shape(product, source):
            continue
        squash = squash_behind(gate)
        if squash is None or source in squash.logits:
            continue
        if len(squash.logits) == 1 and (layers := additive_gate(squash.logits[0], source)):
            nodes = _ordered({*layers, *squash.nodes}, order)
            return Gating(product, source, squash.logits, (*nodes, product), source, "attention gate")
        for origin in (source, *([gated[source].origin] if source in gated else [])):
            inner = _computed_from(origin, squash)
            if inner and not all(node.op_type in ELEMENTWISE for node in inner):
                nodes = _ordered({*inner, *squash.nodes}, order)
                return Gating(product, source, squash.logits, (*nodes, product), origin)
    return None


def _ordered(nodes: set[ir.Node], order: dict[ir.Node, int]) -> list[ir.Node]:
    return sorted(nodes, key=lambda node: order.get(node, -1))


def _keeps_shape(product: ir.Node, source: ir.Value) -> bool:
    """Whether an Einsum multiplies without a sum: ``nchw,nc->nchw``."""
    if is_op(product, "Mul"):
        return True
    equation = attribute(product, "equation", "").replace(" ", "")
    operands, _, result = equation.partition("->")
    terms = operands.split(",")
    index = list(product.inputs).index(source)
    return len(terms) == 2 and terms[index] == result and set(terms[1 - index]) <= set(result)


def _computed_from(origin: ir.Value, squash: Squash) -> list[ir.Node]:
    """The nodes from a map to all logits; none if one of them isn't computed from the map alone."""
    nodes: dict[ir.Node, None] = {}
    for logits in squash.logits:
        inner = between(_sources(origin), logits)
        if not inner:
            return []
        nodes |= dict.fromkeys(inner)
    return list(nodes)


def _sources(gated: ir.Value) -> tuple[ir.Value, ...]:
    """What a gate may be computed from: the map it gates, or what a 1x1 convolution makes that map of."""
    values = [gated]
    while (node := made_by(values[-1], *QUANTIZING)) is not None and node.inputs[0] is not None:
        values.append(node.inputs[0])
    if len(values) > 1:
        values += [node.outputs[0] for node in users(values[-1]) if is_op(node, *QUANTIZING)]
    expansion = made_by(gated, "Conv")
    if expansion is not None and expansion.inputs[0] is not None and (dims(expansion.inputs[1]) or ())[2:] == (1, 1):
        values.append(expansion.inputs[0])
    return tuple(values)


def _described(gating: Gating) -> AttentionBlock:
    shape = dims(gating.source)
    channels = shape[1] if shape is not None and len(shape) > 1 and isinstance(shape[1], int) else None
    summaries = summaries_of(gating.nodes, channels)
    kind = gating.kind or _kind(gating, summaries, channels)
    hidden = _hidden(summaries, channels) if kind.startswith(("SE", CHANNEL, "CBAM", COORDINATE)) else None
    return AttentionBlock(
        kind=kind,
        module_path=common_path(gating.nodes),
        channels=channels,
        reduction=max(1, channels // hidden) if channels and isinstance(hidden, int) and kind != SPATIAL else None,
        kernel=_kernel(kind, summaries),
        gates=tuple(logits.name or "" for logits in gating.logits),
        maps=(gating.product.outputs[0].name or "",),
        nodes=tuple(node.name or node.op_type for node in gating.nodes),
        nodes_before=len(gating.nodes),
    )


def _kind(gating: Gating, summaries: Summaries, channels: Dim) -> str:
    pooled, across = summaries.kinds(Over.PLACES), summaries.kinds(Over.CHANNELS)
    weights = summaries.weights
    if summaries.is_directional:
        return COORDINATE
    if across:
        has_kernel = any(len(w) == 4 and w[-1] > 1 for w in weights)
        return ("CBAM" if pooled and len(gating.logits) > 1 else SPATIAL) if has_kernel else UNKNOWN
    if not pooled or not weights:
        return UNKNOWN
    if any(_slides_over_channels(w) for w in weights):
        return "ECA"
    if _adds_map_of_places(gating):
        return "BAM"
    if {"Mean", "Max"} <= pooled and not pools_are_combined(summaries, gating.nodes, channels):
        return CHANNEL
    if "Softmax" in pooled:
        return "SE (softmax pool)"
    return "SE (sums)" if pooled == {"Sum"} else "SE" if len(weights) > 1 else "SE (one layer)"


def _hidden(summaries: Summaries, channels: Dim) -> Dim:
    widths = [size for w in summaries.weights for size in w[:2] if size != channels and max((*w[2:], 1)) == 1]
    return min(widths, default=channels)


def _kernel(kind: str, summaries: Summaries) -> int | None:
    """Of the spatial gate's convolution, or of ECA's."""
    if kind == "ECA":
        return next(max(w[2:]) for w in summaries.weights if _slides_over_channels(w))
    spatial = kind in ("CBAM", SPATIAL)
    return next((w[-1] for w in summaries.weights if len(w) == 4 and w[-1] > 1), None) if spatial else None


def _slides_over_channels(weight: tuple[int, ...]) -> bool:
    """Whether a weight is that of a convolution with one channel in and out, over (N, 1, C) or (N, 1, C, 1)."""
    return weight[:2] == (1, 1) and len(weight) > 2 and max(weight[2:]) > 1


def _adds_map_of_places(gating: Gating) -> bool:
    """Whether a vector of channels and a map of one channel are added before the sigmoid, as in BAM."""
    for node in gating.nodes:
        shapes = [_shape_before_expand(value) for value in node.inputs] if is_op(node, "Add") else []
        of_places = [len(shape) == 4 and shape[1] == 1 and shape[2:] != (1, 1) for shape in shapes]
        if any(of_places) and any(shape[2:] == (1, 1) and shape[1] != 1 for shape in shapes):
            return True
    return False


def _shape_before_expand(value: ir.Value | None) -> tuple[Dim, ...]:
    expand = made_by(value, "Expand")
    return dims(expand.inputs[0] if expand is not None else value) or ()


def _joined(
    earlier: Gating, first: AttentionBlock, gating: Gating, second: AttentionBlock, order: dict[ir.Node, int]
) -> tuple[Gating, AttentionBlock] | None:
    """Two gates as the halves of one block; None if they have nothing to do with each other.

    CBAM: one gate of channels and one of places, one after the other in either order, or both of the same map. In
    coordinate attention both are of the same map.
    """
    kinds = (first.kind, second.kind)
    within = earlier.product in gating.nodes  # both gates are multiplied first, then the map
    chained = earlier.product.outputs[0] is gating.source
    sum_of_both = _sum_of(earlier, gating) if earlier.source is gating.source else None
    if kinds == (COORDINATE, COORDINATE) and chained and gating.origin is earlier.source:
        kind = COORDINATE
    elif within:
        kind = second.kind
    elif (chained or sum_of_both is not None) and _are_halves(*kinds):
        kind = "CBAM"
    else:
        return None
    members = {*earlier.nodes, *gating.nodes, *([sum_of_both] if sum_of_both is not None else [])}
    nodes = tuple(_ordered(members, order))
    channel, spatial = (second, first) if first.kind == SPATIAL else (first, second)
    last = sum_of_both or gating.product
    maps = (*first.maps, *second.maps) if sum_of_both is None else (sum_of_both.outputs[0].name or "",)
    block = replace(
        channel,
        kind=kind,
        module_path=common_path(nodes),
        kernel=spatial.kernel,
        gates=tuple(dict.fromkeys((*first.gates, *second.gates))),
        maps=maps,
        nodes=tuple(node.name or node.op_type for node in nodes),
        nodes_before=len(nodes),
    )
    return replace(gating, nodes=nodes, product=last), block


def _are_halves(first: str, second: str) -> bool:
    return (first in CHANNEL_HALVES and second == SPATIAL) or (first == SPATIAL and second in CHANNEL_HALVES)


def _sum_of(first: Gating, second: Gating) -> ir.Node | None:
    """The node that reads both gated maps."""
    readers = users(first.product.outputs[0])
    both = [node for node in users(second.product.outputs[0]) if node in readers]
    return next((node for node in both if is_op(node, "Add", "Mul", "Max", "Sum", "Concat")), None)
