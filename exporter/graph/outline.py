"""The outline of a graph: its operators, which feeds which, and which of them are attention."""

from collections.abc import Sequence

import onnx_ir as ir

from attn_export.exporter.artifacts import AttentionBlock
from attn_export.exporter.graph.facts import is_op, read_by
from attn_export.exporter.records.graphs import Outline


def outline(model: ir.Model, blocks: Sequence[AttentionBlock] = ()) -> Outline:
    """The outline of a graph as it stands. It keeps nothing of the graph, which may be changed afterwards.

    Its nodes are sorted and have names; `Outline.marked` puts blocks in later where they aren't known yet.
    """
    nodes = list(model.graph)
    number = {node: index for index, node in enumerate(nodes)}
    inputs = []
    fixed: list[bool] = []
    for node in nodes:
        read = read_by(node)
        producers = (number.get(producer) for value in read if (producer := value.producer()) is not None)
        inputs.append(tuple(dict.fromkeys(i for i in producers if i is not None)))
        fixed.append(
            is_op(node, "Constant", "Shape", "Size") or bool(read and all(_is_fixed(v, number, fixed) for v in read))
        )
    drawn = Outline(
        operators=tuple(node.op_type for node in nodes),
        names=tuple(node.name or "" for node in nodes),
        inputs=tuple(inputs),
        fixed=tuple(fixed),
        blocks=(None,) * len(nodes),
    )
    return drawn.marked(blocks) if blocks else drawn


def _is_fixed(value: ir.Value, number: dict[ir.Node, int], fixed: Sequence[bool]) -> bool:
    producer = value.producer()
    if producer is None:
        return value.const_value is not None
    return producer in number and fixed[number[producer]]
