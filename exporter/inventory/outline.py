"""The outline of a graph: its operators, which feeds which, and which of them are attention."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from attn_export.exporter.facts import is_op
from attn_export.exporter.inventory.blocks import AttentionBlock


@dataclass(frozen=True)
class Marked:
    """An attention block as an outline names it; see `AttentionBlock`."""

    kind: str
    module_path: str


@dataclass(frozen=True)
class Outline:
    """The main graph without weights, shapes and attributes.

    Attributes:
        operators: their types, each after all that it reads.
        names: of each.
        inputs: for each the indices of the operators that it reads, in the order of its inputs, each once. What only
            the body of an If or Loop reads counts too.
        fixed: of each whether it computes from constants and shapes alone.
        blocks: for each the index of the block in ``inventory`` that it is a part of, None outside of attention.
        inventory: the blocks, in the order in which they are computed.
    """

    operators: tuple[str, ...]
    names: tuple[str, ...]
    inputs: tuple[tuple[int, ...], ...]
    fixed: tuple[bool, ...]
    blocks: tuple[int | None, ...]
    inventory: tuple[Marked, ...] = ()

    def marked(self, blocks: Sequence[AttentionBlock]) -> "Outline":
        """The same with these blocks in it.

        An inventory lists the nodes that are left once constants are folded, sizes known and identities dropped. Of
        the others those belong to a block that compute nothing but its constants and sizes, and those that lie between
        two of its nodes.

        Args:
            blocks: found in this graph, or in what became of it so far as its nodes kept their names.
        """
        owners: dict[str, int] = {}
        for index, block in enumerate(blocks):
            for name in block.nodes:
                owners.setdefault(name, index)
        marks = [owners.get(name) if name else None for name in self.names]
        users: list[list[int]] = [[] for _ in self.operators]
        for index, inputs in enumerate(self.inputs):
            for source in inputs:
                users[source].append(index)
        behind, before = list(marks), list(marks)
        for index, inputs in enumerate(self.inputs):
            if marks[index] is None:
                behind[index] = _only(behind[source] for source in inputs if not self.fixed[source])
        for index in reversed(range(len(marks))):
            if marks[index] is None:
                before[index] = _only(before[user] for user in users[index])
        for index in reversed(range(len(marks))):
            if marks[index] is None and self.fixed[index]:
                marks[index] = _only(marks[user] for user in users[index])
            elif marks[index] is None and behind[index] == before[index]:
                marks[index] = before[index]
        inventory = tuple(Marked(block.kind, block.module_path) for block in blocks)
        return replace(self, blocks=tuple(marks), inventory=inventory)


@dataclass(frozen=True)
class Outlined:
    """What became of a graph.

    Attributes:
        artifact: name of the file.
        before: as it was captured, None where only the file is there.
        after: as it is in the file.
    """

    artifact: str
    before: Outline | None
    after: Outline


def outline(model: ir.Model, blocks: Sequence[AttentionBlock] = ()) -> Outline:
    """The outline of a graph as it stands. It keeps nothing of the graph, which may be changed afterwards.

    Args:
        model: its main graph is sorted, its nodes have names of their own.
        blocks: its attention; `Outline.marked` puts them in later where they aren't known yet.
    """
    nodes = list(model.graph)
    number = {node: index for index, node in enumerate(nodes)}
    inputs = []
    fixed: list[bool] = []
    for node in nodes:
        read = [value for value in _read(node) if value is not None]
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


def _read(node: ir.Node) -> Iterator[ir.Value | None]:
    """What a node reads, in the bodies of If and Loop too."""
    yield from node.inputs
    for attribute in node.attributes.values():
        bodies = [attribute.value] if attribute.type == ir.AttributeType.GRAPH else []
        for body in attribute.value if attribute.type == ir.AttributeType.GRAPHS else bodies:
            for inner in body.all_nodes():
                yield from inner.inputs
            yield from body.outputs


def _is_fixed(value: ir.Value, number: dict[ir.Node, int], fixed: Sequence[bool]) -> bool:
    producer = value.producer()
    if producer is None:
        return value.const_value is not None
    return producer in number and fixed[number[producer]]


def _only(found: Iterable[int | None]) -> int | None:
    """The one number that all are; None where they differ, one of them is None, or there is none."""
    different = set(found)
    return different.pop() if len(different) == 1 else None
