"""The nodes of a block in a graph."""

from collections import Counter
from collections.abc import Sequence

import onnx_ir as ir

from attn_export.exporter.artifacts import AttentionBlock


def members_of(model: ir.Model, blocks: Sequence[AttentionBlock]) -> tuple[frozenset[ir.Node], ...]:
    """The nodes of each block, in the order of the blocks.

    Names of nodes needn't be unique. Of several that share one, those count that the block's map is computed from by
    way of nodes of the block alone.

    The model may have been made of the one that they were found in, if it kept its names.
    """
    named = Counter(node.name for node in model.graph)
    made = {value.name: node for node in model.graph for value in node.outputs}
    return tuple(_members(model, block, named, made.get(block.maps[-1])) for block in blocks)


def _members(
    model: ir.Model, block: AttentionBlock, named: Counter[str | None], product: ir.Node | None
) -> frozenset[ir.Node]:
    names, walked, waiting = set(block.nodes), set(), [product]
    while waiting:
        node = waiting.pop()
        if node is not None and node.name in names and node not in walked:
            walked.add(node)
            waiting += [value.producer() for value in node.inputs if value is not None]
    return frozenset(walked | {node for node in model.graph if node.name in names and named[node.name] == 1})


def owners_of(members: Sequence[frozenset[ir.Node]]) -> dict[ir.Node, int]:
    """Node -> index of its block. A node of several, one of which lies within the other, is the smallest one's."""
    owner: dict[ir.Node, int] = {}
    for index in sorted(range(len(members)), key=lambda i: -len(members[i])):
        owner |= dict.fromkeys(members[index], index)
    return owner
