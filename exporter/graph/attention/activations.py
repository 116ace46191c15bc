"""Gate activations in every spelling: what turns logits into factors between 0 and 1, and how the factors travel on."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from attn_export.exporter.graph.clamps import CLAMPS, clamp_of
from attn_export.exporter.graph.facts import GATE_ACTIVATIONS, dims, is_op, made_by, scalar, stored

# What may stand between the activation and the multiplication.
QUANTIZING = ("QuantizeLinear", "DequantizeLinear")
CARRIERS = (
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Transpose", "Cast", "Identity", "Resize", "Tile"),
    *QUANTIZING,
)
LARGEST_BLOCK = 128


class Activation(NamedTuple):
    """The logits of a gate, and the nodes from there to the gate."""

    logits: tuple[ir.Value, ...]
    nodes: tuple[ir.Node, ...]


def activation_behind(gate: ir.Value | None, nested: int = 2) -> Activation | None:
    """The activation that a gate comes from; several of them where their results are added or multiplied.

    ``nested`` is how deep sums and products of gates may lie within each other; networks are full of sums.
    """
    nodes: list[ir.Node] = []
    value = gate
    while len(nodes) < LARGEST_BLOCK:
        if (found := activation_at(value)) is not None:
            return Activation(found.logits, (*nodes, *found.nodes))
        node = value.producer() if value is not None else None
        if node is None:
            return None
        inner, constant = _with_number(node)
        if constant is not None:  # 1 + gate, or 2 * gate
            value = inner
        elif is_op(node, "Add", "Mul") and nested:
            parts = [activation_behind(operand, nested - 1) for operand in node.inputs]
            found_parts = [part for part in parts if part is not None]
            if len(found_parts) < len(parts):
                return None
            logits = dict.fromkeys(value for part in found_parts for value in part.logits)
            return Activation(tuple(logits), (*nodes, node, *(inner for part in found_parts for inner in part.nodes)))
        elif _carries(node):
            nodes += between((), node.inputs[1]) if is_op(node, "Expand", "Reshape", "Tile") else []
            value = node.inputs[0]
        else:
            return None
        nodes.append(node)
    return None


def _carries(node: ir.Node) -> bool:
    return (
        is_op(node, *CARRIERS)
        or (is_op(node, "Conv") and _repeats(node))
        or (is_op(node, "Slice", "Split") and _keeps_all(node))
    )


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


def activation_at(value: ir.Value | None) -> Activation | None:
    """The activation whose result a value is."""
    node = made_by(value, *GATE_ACTIVATIONS)
    if node is not None and node.inputs[0] is not None:
        return Activation((node.inputs[0],), (node,))
    return _hard_sigmoid_in_parts(value) or _by_exponential(value) or _by_tanh(value)


def _hard_sigmoid_in_parts(value: ir.Value | None) -> Activation | None:
    """relu6(x + 3) / 6, or clip(x / 6 + 0.5, 0, 1), the clip in one node or several."""
    value, parts = unscaled(value)
    low, high = -math.inf, math.inf
    while (node := made_by(value, *CLAMPS)) is not None and (clamp := clamp_of(node)) is not None:
        low, high = max(low, clamp.limits.low), min(high, clamp.limits.high)
        parts.append(node)
        value = clamp.source
    value, inner_parts = unscaled(value)
    added = made_by(value, "Add", "Sub")
    inner, shift = _with_number(added) if added is not None else (None, None)
    if added is None or shift is None or low != 0 or not 0 < high < math.inf:
        return None
    source, scaled = unscaled(inner)
    return None if source is None else Activation((source,), (*parts, *inner_parts, added, *scaled))


def _by_exponential(value: ir.Value | None) -> Activation | None:
    """1 / (1 + exp(-x))."""
    whole = made_by(value, "Div", "Reciprocal")
    if whole is None or (is_op(whole, "Div") and scalar(whole.inputs[0]) != 1):
        return None
    added = made_by(whole.inputs[-1], "Add")
    inner, one = _with_number(added) if added is not None else (None, None)
    power = made_by(inner, "Exp")
    negated = power.inputs[0].producer() if power is not None and power.inputs[0] is not None else None
    if added is None or power is None or negated is None or one != 1:
        return None
    source, factor = (negated.inputs[0], -1.0) if is_op(negated, "Neg") else _with_number(negated)
    if source is None or factor is None or factor >= 0 or not is_op(negated, "Neg", "Mul", "Div"):
        return None
    return Activation((source,), (whole, added, power, negated))


def _by_tanh(value: ir.Value | None) -> Activation | None:
    """(1 + tanh(x / 2)) / 2, or 0.5 * tanh(x / 2) + 0.5; also 1 + tanh(x), twice the sigmoid of 2 x."""
    nodes: list[ir.Node] = []
    numbers: list[float] = []
    while (node := made_by(value, "Add", "Mul", "Div")) is not None and (pair := _with_number(node))[1] is not None:
        nodes.append(node)
        numbers.append(pair[1])
        value = pair[0]
    tangent = made_by(value, "Tanh")
    is_sum = [node.op_type == "Add" for node in nodes]
    if tangent is None or (sorted(is_sum) != [False, True] and (is_sum, numbers) != ([True], [1.0])):
        return None
    source, scaled = unscaled(tangent.inputs[0])
    return None if source is None else Activation((source,), (*nodes, tangent, *scaled))


def unscaled(value: ir.Value | None) -> tuple[ir.Value | None, list[ir.Node]]:
    """What is multiplied with a number or divided by one, and the node; the value itself if it isn't."""
    scaled = made_by(value, "Mul", "Div")
    source, number = _with_number(scaled) if scaled is not None else (None, None)
    return (source, [scaled]) if scaled is not None and number is not None else (value, [])


def _with_number(node: ir.Node) -> tuple[ir.Value | None, float | None]:
    """The computed operand of a sum, product or quotient with a number, and the number; None for other nodes."""
    if is_op(node, "Add", "Sub", "Mul", "Div"):
        for value, other in (node.inputs[:2], node.inputs[1::-1]):
            number = scalar(other)
            if number is not None and value is not None and (value is node.inputs[0] or is_op(node, "Add", "Mul")):
                return value, number
    return None, None


def between(sources: Sequence[ir.Value], result: ir.Value | None) -> list[ir.Node]:
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
