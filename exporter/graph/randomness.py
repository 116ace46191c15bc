"""Nodes that compute something else in every run, and what depends on them."""

import onnx_ir as ir

from attn_export.exporter.graph.facts import DEFAULT_DOMAINS, constant, is_op, read_by

RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


def is_random(node: ir.Node, model: "ir.Model | None" = None) -> bool:
    """Whether a node draws random numbers, itself or in a body of its own.

    Dropout is random if its training mode is on or unknown; before opset 12 it has none.
    """
    if is_op(node, *RANDOM) or (is_op(node, "Dropout") and _is_training(node)):
        return True
    called = model.functions.get(node.op_identifier()) if model is not None else None
    if called is not None and any(is_random(inner, model) for inner in called):
        return True
    bodies = [attribute.value for attribute in node.attributes.values() if attribute.type == ir.AttributeType.GRAPH]
    return any(is_random(inner, model) for body in bodies for inner in body)


def _is_training(dropout: ir.Node) -> bool:
    """Whether it may drop something: it has a mode, and neither this nor its ratio is known to be zero."""
    ratio, mode = (*dropout.inputs[1:3], None, None)[:2]
    return mode is not None and not _is_zero(mode) and not _is_zero(ratio)


def _is_zero(value: ir.Value | None) -> bool:
    known = constant(value)
    return known is not None and not known.any()


def may_share(node: ir.Node) -> bool:
    """Whether equal nodes compute equal results. Of other domains' operators nothing is known."""
    return node.domain in DEFAULT_DOMAINS and not is_random(node)


def random_outputs(model: ir.Model) -> dict[str, str]:
    """The graph's outputs that depend on random numbers: name -> the node that draws them."""
    origin: dict[ir.Value, str] = {}
    for node in model.graph:
        read = [] if is_op(node, "Shape", "Size") else read_by(node)
        source = next((origin[value] for value in read if value in origin), "")
        if is_random(node, model):
            source = source or f"{node.op_type} {node.name or node.outputs[0].name}"
        if source:
            origin |= dict.fromkeys(node.outputs, source)
    return {str(value.name): origin[value] for value in model.graph.outputs if value in origin}
