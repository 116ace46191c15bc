"""Replaces a part of a graph and keeps the names that people and later stages look for."""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Rewrite
from attn_export.exporter.graph.names import unique_name


class UniqueNames:
    """The names of a graph's nodes and values, including the bodies of If and Loop.

    Attributes:
        constants: the new initializers by their requested name; rewrites of shared weights share the result.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.constants: dict[str, list[ir.Value]] = {}
        self.nodes = {node.name for node in graph.all_nodes()}
        self.values = {output.name for node in graph.all_nodes() for output in node.outputs}
        self.values |= {value.name for value in graph.inputs} | set(graph.initializers)
        for node in graph.all_nodes():
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH:
                    self.values |= {value.name for value in attribute.value.inputs} | set(attribute.value.initializers)


def apply_rewrite(graph: ir.Graph, rewrite: Rewrite, names: UniqueNames) -> None:
    """Insert the new nodes and drop the old ones that lose their last reader.

    The result keeps the old value's name, type and shape; the last new node keeps the old node's name and metadata.
    """
    old, new = rewrite.old, rewrite.new
    anchor = old.producer()
    if anchor is None:
        raise ValueError("a rewrite replaces the output of a node")
    last = new.producer() if new.producer() in rewrite.nodes else None
    for node in rewrite.nodes:
        for output in node.outputs:
            if output is not new:
                output.name = unique_name(f"{old.name}/{node.op_type}", names.values)
    graph.insert_before(anchor, rewrite.nodes)
    if new.const_value is not None and new.producer() is None and new.graph is None:
        new = _register(graph, new, names)
    if last is not None:
        new.name, old.name = old.name, None
        if new.shape is None or old.is_graph_output():
            new.shape = old.shape
        new.type = old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    stem = (anchor.name or new.name or anchor.op_type).removesuffix(f"/{anchor.op_type}")
    drop_unread(graph, anchor, names)
    for node in rewrite.nodes:
        node.metadata_props.update(anchor.metadata_props)
        same = node is last and node.op_type == anchor.op_type and anchor.name and anchor.graph is None
        node.name = unique_name(str(anchor.name) if same else f"{stem}/{node.op_type}", names.nodes)
        for index, value in enumerate(node.inputs):
            if value is not None and value.const_value is not None and value.graph is None:
                node.replace_input_with(index, _register(graph, value, names))


def _register(graph: ir.Graph, constant: ir.Value, names: UniqueNames) -> ir.Value:
    """Add a constant to the graph's initializers, or return an equal one that a rewrite added before."""
    tensor = constant.const_value
    if tensor is None:
        raise ValueError("a constant needs a value")
    wanted, array = constant.name or "constant", tensor.numpy()
    for known in names.constants.setdefault(wanted, []):
        if known.graph is graph and known.const_value is not None:
            same = known.const_value.numpy()
            if same.dtype == array.dtype and np.array_equal(same, array):
                return known
    constant.name = tensor.name = unique_name(wanted, names.values)
    graph.register_initializer(constant)
    names.constants[wanted].append(constant)
    return constant


def drop_unread(graph: ir.Graph, node: ir.Node, names: UniqueNames) -> None:
    """Remove a node without readers, then recursively its sources without other readers, constants included."""
    if node.graph is not graph or any(output.uses() or output.is_graph_output() for output in node.outputs):
        return
    sources = [value for value in node.inputs if value is not None]
    graph.remove(node, safe=True)
    names.nodes.discard(node.name)
    names.values.difference_update(output.name for output in node.outputs)
    for value in sources:
        producer = value.producer()
        if producer is not None:
            drop_unread(graph, producer, names)
        elif value.is_initializer() and not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            graph.initializers.pop(str(value.name), None)
            names.values.discard(value.name)
