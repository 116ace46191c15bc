"""The inner tensors that a graph and its cleaned form both compute: gates, and the ends of blocks.

A rewrite passes a tensor's name on to what computes the same, so equal names mean equal tensors. A gate has no such
name, because views and layers around it are rewritten; it is known by its product with the map, whose name stays.
"""

from typing import NamedTuple

import onnx_ir as ir

from attn_export.exporter.graph.attention.activations import CARRIERS, activation_at
from attn_export.exporter.graph.facts import is_op, stored
from attn_export.exporter.graph.gates import gates_of

OUTPUT, GATE, BLOCK = "output", "gate", "block"


class Tensor(NamedTuple):
    """A tensor by its role, "output", "gate" or "block", and its name; a gate's name is that of its product."""

    role: str
    name: str


def inner_tensors(model: ir.Model) -> dict[Tensor, ir.Value]:
    """Gates, their products with maps, and sums of two computed tensors, in the order of computation."""
    logits = {gate.tensor for gate in gates_of(model)}
    found: dict[Tensor, ir.Value] = {}
    for node in model.graph:
        value = node.outputs[0]
        activation = activation_at(value)
        if activation is not None and activation.logits[0].name in logits:
            found |= {Tensor(GATE, name): value for name in _products(value)}
        if is_op(node, "Add") and all(stored(operand) is None for operand in node.inputs):
            found[Tensor(BLOCK, str(value.name))] = value
    products = {tensor.name for tensor in found if tensor.role == GATE}
    return found | {Tensor(BLOCK, v.name): v for n in model.graph for v in n.outputs if v.name in products}


def counterparts(model: ir.Model, wanted: "set[Tensor]") -> dict[Tensor, ir.Value]:
    """The same tensors of another graph, as far as it has them."""
    computed = {str(value.name): value for node in model.graph for value in node.outputs}
    gates = {tensor: value for tensor, value in inner_tensors(model).items() if tensor.role == GATE}
    ends = {tensor: computed[tensor.name] for tensor in wanted if tensor.role == BLOCK and tensor.name in computed}
    return ends | {tensor: value for tensor, value in gates.items() if tensor in wanted}


def _products(gate: ir.Value) -> list[str]:
    """The names of the products of a gate with a map, behind views of it."""
    found: list[str] = []
    for node in dict.fromkeys(gate.consumers()):
        if is_op(node, "Mul") and node.graph is gate.graph:
            found.append(str(node.outputs[0].name))
        elif is_op(node, *CARRIERS):
            found += _products(node.outputs[0])
    return found
