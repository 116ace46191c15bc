"""Which attention block a kernel of ONNX Runtime works for.

A kernel's name, and those of what it writes, tell operators that it computes (`naming`). Operators that were fused into
it are found by following the graph back from these to what the kernel reads. Then:

- A kernel that computes operators of one block alone is the block's.
- One that computes nothing of any block isn't attention.
- One that does both is nobody's, and so is one that nothing is known of: its time can't be told apart.
- One that only brings a map into another layout or type belongs to the block that made the map, or else to the one that
  alone reads it. In the graph without attention neither side would ask for it.
"""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from attn_export.exporter.latency.attention_cost.naming import Names
from attn_export.exporter.latency.attention_cost.profile import Kernel

# They hand numbers on as they are.
LAYOUT_OPERATORS = (
    *("Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Identity"),
    *("ReorderInput", "ReorderOutput"),
)
NO_BLOCK, UNKNOWN = -1, -2


def attributed(kernels: Sequence[Kernel], names: Names, owner: Mapping[ir.Node, int]) -> tuple[int, ...]:
    """For each kernel the index of its block, `NO_BLOCK`, or `UNKNOWN`.

    Args:
        kernels: of the graph that was named.
        names: of that graph.
        owner: of that graph's nodes, as `inventory.members.owners_of` tells it.
    """
    flow = _Flow(kernels)
    found = _computed(kernels, names, flow)
    owners: list[int | None] = [_owner(kernel, nodes, owner) for kernel, nodes in zip(kernels, found, strict=True)]
    return tuple(
        known if known is not None else _by_neighbours(index, flow, owners) for index, known in enumerate(owners)
    )


class _Flow:
    """Who makes what a kernel reads, and who reads what it makes."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        makers = {tensor: index for index, kernel in enumerate(kernels) for tensor in kernel.writes if tensor}
        self.before = [
            list(dict.fromkeys(makers[tensor] for tensor in kernel.reads if tensor in makers)) for kernel in kernels
        ]
        self.after: list[list[int]] = [[] for _ in kernels]
        for index, sources in enumerate(self.before):
            for source in sources:
                self.after[source].append(index)


def _computed(kernels: Sequence[Kernel], names: Names, flow: _Flow) -> list[set[ir.Node]]:
    """The nodes of the graph that each kernel computes, as far as they can be told."""
    told = [_told(kernel, names) for kernel in kernels]
    taken = set[ir.Node]().union(*told)
    moves = [kernel.op_type in LAYOUT_OPERATORS for kernel in kernels]
    silent = [not nodes for nodes in told]
    read = _read(kernels, names, flow, [a and b for a, b in zip(moves, silent, strict=True)])
    for index, nodes in enumerate(told):
        for node in list(nodes):
            nodes |= _fused(node, read[index], taken)
    # An operator that is a function of ONNX may be expanded to several kernels, of which the last has its name.
    read = _read(kernels, names, flow, silent)
    for index in reversed(range(len(kernels))):
        if silent[index] and not moves[index]:
            last = set[ir.Node]().union(*(told[reader] for reader in flow.after[index]))
            told[index] = {node for node in last if read[index].intersection(node.inputs)}
    return told


def _told(kernel: Kernel, names: Names) -> set[ir.Node]:
    """The nodes that names speak of. What a mover writes was computed by another kernel."""
    nodes = {names.node(name) for name in (kernel.name, *kernel.writes)}
    moves = kernel.op_type in LAYOUT_OPERATORS
    return {node for node in nodes if node is not None and (not moves or node.op_type in LAYOUT_OPERATORS)}


def _read(kernels: Sequence[Kernel], names: Names, flow: _Flow, passing: Sequence[bool]) -> list[set[ir.Value]]:
    """The graph's tensors that each kernel reads, by name or by way of the kernels that are passing on."""
    read: list[set[ir.Value]] = []
    for index, kernel in enumerate(kernels):  # in the order in which they run
        found = {names.tensor(name) for name in kernel.reads}
        found |= {value for source in flow.before[index] if passing[source] for value in read[source]}
        read.append({value for value in found if value is not None})
    return read


def _fused(node: ir.Node, read: set[ir.Value], taken: set[ir.Node]) -> set[ir.Node]:
    """Nodes that no kernel is named after, on the ways back from a node to the tensors that its kernel reads."""
    behind: dict[ir.Node, None] = {}
    waiting = [node]
    while waiting:
        for value in waiting.pop().inputs:
            source = value.producer() if value is not None and value not in read else None
            if source is not None and source not in taken and source not in behind:
                behind[source] = None
                waiting.append(source)
    found: set[ir.Node] = set()
    while more := {
        one for one in behind if one not in found and (read.intersection(one.inputs) or found & _before(one))
    }:
        found |= more
    return found


def _before(node: ir.Node) -> set[ir.Node | None]:
    return {value.producer() for value in node.inputs if value is not None}


def _owner(kernel: Kernel, nodes: set[ir.Node], owner: Mapping[ir.Node, int]) -> int | None:
    """By what it computes; None for one that only moves maps."""
    owners = {owner.get(node, NO_BLOCK) for node in nodes if node.op_type not in LAYOUT_OPERATORS}
    if not owners:
        owners = {owner[node] for node in nodes if node in owner}
    if not owners:
        return None if kernel.op_type in LAYOUT_OPERATORS else UNKNOWN
    return owners.pop() if len(owners) == 1 else UNKNOWN


def _by_neighbours(index: int, flow: _Flow, owners: Sequence[int | None]) -> int:
    """Of a mover: the block that makes what it reads, or the one that alone reads what it makes."""
    makers = _nearest(index, flow.before, owners)
    readers = _nearest(index, flow.after, owners)
    for around in (makers, readers):
        if len(around) == 1 and (only := next(iter(around))) != NO_BLOCK:
            return only
    return UNKNOWN if UNKNOWN in makers | readers else NO_BLOCK


def _nearest(index: int, ways: Sequence[Sequence[int]], owners: Sequence[int | None]) -> set[int]:
    """The owners of the nearest kernels in one direction that aren't movers."""
    found: set[int] = set()
    waiting, seen = list(ways[index]), set()
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        known = owners[place]
        if known is None:
            waiting += ways[place]
        else:
            found.add(known)
    return found
