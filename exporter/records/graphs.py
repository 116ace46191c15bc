"""Outlines of graphs: their operators, with the attention blocks marked."""

from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

from attn_export.exporter.artifacts import AttentionBlock


class Marked(Struct, frozen=True):
    """An attention block as an outline names it; see `AttentionBlock`."""

    kind: str
    module_path: str


class OutlineRecord(Struct, frozen=True):
    """An `Outline` in a document, which needs no names."""

    operators: tuple[str, ...]
    blocks: tuple[int | None, ...]
    inputs: tuple[tuple[int, ...], ...]
    inventory: tuple[Marked, ...]


class GraphOutlines(Struct, frozen=True):
    """The graph of an artifact, as it was captured and as it is in the file; ``before`` is None without a capture."""

    artifact: str
    before: OutlineRecord | None
    after: OutlineRecord


class Outline(Struct, frozen=True):
    """The main graph without weights, shapes and attributes.

    Attributes:
        operators: their types, each after all that it reads.
        inputs: for each the indices of the operators that it reads, in the order of its inputs, each once. What only
            the body of an If or Loop reads counts too.
        fixed: of each whether it computes from constants and shapes alone.
        blocks: for each the index of the block in ``inventory`` that it is a part of, None outside of attention.
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
        return structs.replace(self, blocks=tuple(marks), inventory=inventory)

    @property
    def record(self) -> OutlineRecord:
        """What a report says of it."""
        return OutlineRecord(self.operators, self.blocks, self.inputs, self.inventory)


def _only(found: Iterable[int | None]) -> int | None:
    """The one number that all are; None where they differ, one of them is None, or there is none."""
    different = set(found)
    return different.pop() if len(different) == 1 else None
