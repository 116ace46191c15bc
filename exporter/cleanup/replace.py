"""Carrying a rewrite out: new nodes in, old ones gone, names kept where people and later stages look for them."""

import numpy as np
import onnx_ir as ir

from attn_export.exporter.cleanup.rule import Rewrite


class Names:
    """The names that nodes and values of a graph have, those in the bodies of If and Loop included.

    It also remembers the constants that were made, by the name that was wanted: layers that shared a weight are to
    share what is made of it.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.made: dict[str, list[ir.Value]] = {}
        self.nodes = {node.name for node in graph.all_nodes()}
        self.values = {output.name for node in graph.all_nodes() for output in node.outputs}
        self.values |= {value.name for value in graph.inputs} | set(graph.initializers)
        for node in graph.all_nodes():
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH:
                    self.values |= {value.name for value in attribute.value.inputs} | set(attribute.value.initializers)

    @staticmethod
    def take(wanted: str, taken: set[str | None]) -> str:
        """The name, or one made of it where it is taken; taken from now on."""
        name = wanted
        number = 0
        while name in taken:
            number += 1
            name = f"{wanted}_{number}"
        taken.add(name)
        return name


def carry_out(graph: ir.Graph, rewrite: Rewrite, names: Names) -> None:
    """Put the new part in its place and drop what nothing reads any more.

    The result keeps the old value's name, type and shape, the last new node the old one's name and notes, so that
    later stages and people find it where it was.
    """
    old, new = rewrite.old, rewrite.new
    anchor = old.producer()
    if anchor is None:
        raise ValueError("what is replaced has to be computed by a node")
    last = new.producer() if new.producer() in rewrite.nodes else None
    for node in rewrite.nodes:
        for output in node.outputs:
            if output is not new:
                output.name = Names.take(f"{old.name}/{node.op_type}", names.values)
    graph.insert_before(anchor, rewrite.nodes)
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
        node.name = Names.take(str(anchor.name) if same else f"{stem}/{node.op_type}", names.nodes)
        for index, value in enumerate(node.inputs):
            if value is not None and value.const_value is not None and value.graph is None:
                node.replace_input_with(index, _registered(graph, value, names))


def _registered(graph: ir.Graph, constant: ir.Value, names: Names) -> ir.Value:
    """The constant as an initializer of the graph: an equal one that was made before, or a new one."""
    tensor = constant.const_value
    if tensor is None:
        raise ValueError("a constant has a content")
    wanted, array = constant.name or "constant", tensor.numpy()
    for known in names.made.setdefault(wanted, []):
        if known.graph is graph and known.const_value is not None:
            same = known.const_value.numpy()
            if same.dtype == array.dtype and np.array_equal(same, array):
                return known
    constant.name = Names.take(wanted, names.values)
    tensor.name = constant.name
    graph.register_initializer(constant)
    names.made[wanted].append(constant)
    return constant


def drop_unread(graph: ir.Graph, node: ir.Node, names: Names) -> None:
    """Remove a node whose results nothing reads, then what it alone had read, and so on; their constants too."""
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
