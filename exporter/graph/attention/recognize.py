"""Attention blocks, however they are written.

What makes a block is its flow of data, not its operators: a map is multiplied with something that went through a
sigmoid and was computed from that map alone. `attn_export.exporter.graph.attention.kinds` says of which kind it is.
U-Net's attention gate reads another map as well, and is recognised by its layers.
"""

import itertools
from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from attn_export.exporter.artifacts import AttentionBlock
from attn_export.exporter.graph.attention.activations import QUANTIZING, Activation, activation_behind, between
from attn_export.exporter.graph.attention.additive import additive_gate
from attn_export.exporter.graph.attention.branches import kind_of_branches, softmax_of_branches
from attn_export.exporter.graph.attention.kinds import (
    CHANNEL,
    COORDINATE,
    ELA,
    SCSE,
    SPATIAL,
    SPATIAL_SE,
    Gating,
    described,
    pooled_direction,
)
from attn_export.exporter.graph.attention.paths import common_path
from attn_export.exporter.graph.attention.summaries import Over
from attn_export.exporter.graph.facts import attribute, dims, is_op, made_by, users

# Gates of channels that are one half of a CBAM if the other half is a spatial gate of the same map.
CHANNEL_HALVES = (CHANNEL, "SE", "SE (one layer)")
# What computes each number of a map from that number alone: such a gate is an activation, like SiLU or GELU.
ELEMENTWISE = frozenset(
    "Abs Add Cast Clip Div Elu Erf Exp HardSigmoid Identity LeakyRelu Log Max Min Mul Neg Pow Reciprocal Relu Sigmoid "
    "Softplus Sqrt Sub Tanh QuantizeLinear DequantizeLinear".split()
)


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
        block = described(gating)
        if found and (joined := _joined(*found[-1], gating, block, order)) is not None:
            found[-1] = (joined[0], joined[1])
        else:
            found.append((gating, block))
    return tuple(block for _, block in found)


def _gating(product: ir.Node, order: dict[ir.Node, int], gated: Mapping[ir.Value, Gating]) -> Gating | None:
    """The multiplication as one by a gate, None if it is something else: SiLU, a scale, a gate from another map."""
    for source, gate in itertools.permutations(product.inputs[:2], 2):
        if source is None or gate is None or not _keeps_shape(product, source):
            continue
        branches = softmax_of_branches(product, gate)
        activation = branches or activation_behind(gate)
        if activation is None or source in activation.logits:
            continue
        kind = kind_of_branches(source) if branches is not None else ""
        if len(activation.logits) == 1 and (layers := additive_gate(activation.logits[0], source)):
            nodes = _ordered({*layers, *activation.nodes}, order)
            return Gating(product, source, activation.logits, (*nodes, product), source, "attention gate")
        for origin in (source, *([gated[source].origin] if source in gated else [])):
            inner = _computed_from(origin, activation)
            if inner and not all(node.op_type in ELEMENTWISE for node in inner):
                nodes = _ordered({*inner, *activation.nodes}, order)
                return Gating(product, source, activation.logits, (*nodes, product), origin, kind)
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


def _computed_from(origin: ir.Value, activation: Activation) -> list[ir.Node]:
    """The nodes from a map to all logits; none if one of them isn't computed from the map alone."""
    nodes: dict[ir.Node, None] = {}
    for logits in activation.logits:
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


def _joined(
    earlier: Gating, first: AttentionBlock, gating: Gating, second: AttentionBlock, order: dict[ir.Node, int]
) -> tuple[Gating, AttentionBlock] | None:
    """Two gates as the halves of one block; None if they have nothing to do with each other.

    CBAM: one gate of channels and one of places, one after the other in either order, or both of the same map. In
    coordinate attention both are of the same map, and in scSE both gated maps are added.
    """
    kinds = (first.kind, second.kind)
    within = earlier.product in gating.nodes  # both gates are multiplied first, then the map
    chained = earlier.product.outputs[0] is gating.source
    sum_of_both = _sum_of(earlier, gating) if earlier.source is gating.source else None
    of_one_map = chained and gating.origin is earlier.source
    if kinds == (COORDINATE, COORDINATE) and of_one_map:
        kind = COORDINATE
    elif of_one_map and {pooled_direction(earlier), pooled_direction(gating)} == {Over.ROWS, Over.COLUMNS}:
        kind = ELA
    elif within:
        kind = second.kind
    elif sum_of_both is not None and _are_halves(*kinds, SPATIAL_SE):
        kind = SCSE
    elif (chained or sum_of_both is not None) and _are_halves(*kinds, SPATIAL):
        kind = "CBAM"
    else:
        return None
    members = {*earlier.nodes, *gating.nodes, *([sum_of_both] if sum_of_both is not None else [])}
    nodes = tuple(_ordered(members, order))
    channel, spatial = (second, first) if first.kind in (SPATIAL, SPATIAL_SE) else (first, second)
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


def _are_halves(first: str, second: str, spatial: str) -> bool:
    return (first in CHANNEL_HALVES and second == spatial) or (first == spatial and second in CHANNEL_HALVES)


def _sum_of(first: Gating, second: Gating) -> ir.Node | None:
    """The node that reads both gated maps."""
    readers = users(first.product.outputs[0])
    both = [node for node in users(second.product.outputs[0]) if node in readers]
    return next((node for node in both if is_op(node, "Add", "Mul", "Max", "Sum", "Concat")), None)
