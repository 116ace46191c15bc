"""Attributes the kernels of ONNX Runtime to attention blocks.

The names of a kernel and of its outputs identify operators that it computes (`naming`). The operators fused into it lie
on the paths from these back to the kernel's inputs. Then:

- A kernel with operators of one block alone belongs to the block.
- One without operators of any block isn't attention.
- One with both, or with unknown operators, is unattributed.
- One that only changes layout or type belongs to the block that produces its input, or else to the only block that
  reads its output: the ablated model doesn't need it.
"""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from attn_export.exporter.latency.attention_cost.naming import Names
from attn_export.exporter.latency.attention_cost.profile import Kernel

LAYOUT_OPERATORS = (
    *("Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Identity"),
    *("ReorderInput", "ReorderOutput"),
)
NO_BLOCK, UNKNOWN = -1, -2


def attributed(kernels: Sequence[Kernel], names: Names, owner: Mapping[ir.Node, int]) -> tuple[int, ...]:
    """For each kernel the index of its block, `NO_BLOCK`, or `UNKNOWN`.

    ``owner`` is from `owners_of`.
    """
    flow = _Flow(kernels)
    found = _computed(kernels, names, flow)
    owners: list[int | None] = [_owner(kernel, nodes, owner) for kernel, nodes in zip(kernels, found, strict=True)]
    return tuple(
        known if known is not None else _by_neighbours(index, flow, owners) for index, known in enumerate(owners)
    )


class _Flow:
    """The producers of each kernel's inputs, and the consumers of its outputs."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        producers = {tensor: index for index, kernel in enumerate(kernels) for tensor in kernel.writes if tensor}
        self.before = [
            list(dict.fromkeys(producers[tensor] for tensor in kernel.reads if tensor in producers))
            for kernel in kernels
        ]
        self.after: list[list[int]] = [[] for _ in kernels]
        for index, sources in enumerate(self.before):
            for source in sources:
                self.after[source].append(index)


def _computed(kernels: Sequence[Kernel], names: Names, flow: _Flow) -> list[set[ir.Node]]:
    """The nodes of the graph that each kernel computes, as far as known."""
    nodes_of = [_named_nodes(kernel, names) for kernel in kernels]
    taken = set[ir.Node]().union(*nodes_of)
    moves = [kernel.op_type in LAYOUT_OPERATORS for kernel in kernels]
    unnamed = [not nodes for nodes in nodes_of]
    read = _read(kernels, names, flow, [a and b for a, b in zip(moves, unnamed, strict=True)])
    for index, nodes in enumerate(nodes_of):
        for node in list(nodes):
            nodes |= _fused(node, read[index], taken)
    # An ONNX function may be expanded to several kernels; only the last one has its name.
    read = _read(kernels, names, flow, unnamed)
    for index in reversed(range(len(kernels))):
        if unnamed[index] and not moves[index]:
            last = set[ir.Node]().union(*(nodes_of[reader] for reader in flow.after[index]))
            nodes_of[index] = {node for node in last if read[index].intersection(node.inputs)}
    return nodes_of


def _named_nodes(kernel: Kernel, names: Names) -> set[ir.Node]:
    """The nodes named by a kernel. The output of a layout change was computed by another kernel."""
    nodes = {names.node(name) for name in (kernel.name, *kernel.writes)}
    moves = kernel.op_type in LAYOUT_OPERATORS
    return {node for node in nodes if node is not None and (not moves or node.op_type in LAYOUT_OPERATORS)}


def _read(kernels: Sequence[Kernel], names: Names, flow: _Flow, passing: Sequence[bool]) -> list[set[ir.Value]]:
    """The graph's tensors that each kernel reads, by name or through ``passing`` kernels."""
    read: list[set[ir.Value]] = []
    for index, kernel in enumerate(kernels):  # in execution order
        found = {names.tensor(name) for name in kernel.reads}
        found |= {value for source in flow.before[index] if passing[source] for value in read[source]}
        read.append({value for value in found if value is not None})
    return read


def _fused(node: ir.Node, read: set[ir.Value], taken: set[ir.Node]) -> set[ir.Node]:
    """Unnamed nodes on the paths from a node back to its kernel's inputs."""
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
        node for node in behind if node not in found and (read.intersection(node.inputs) or found & _before(node))
    }:
        found |= more
    return found


def _before(node: ir.Node) -> set[ir.Node | None]:
    return {value.producer() for value in node.inputs if value is not None}


def _owner(kernel: Kernel, nodes: set[ir.Node], owner: Mapping[ir.Node, int]) -> int | None:
    """The block of a kernel by its nodes; None for layout changes."""
    owners = {owner.get(node, NO_BLOCK) for node in nodes if node.op_type not in LAYOUT_OPERATORS}
    if not owners:
        owners = {owner[node] for node in nodes if node in owner}
    if not owners:
        return None if kernel.op_type in LAYOUT_OPERATORS else UNKNOWN
    return owners.pop() if len(owners) == 1 else UNKNOWN


def _by_neighbours(index: int, flow: _Flow, owners: Sequence[int | None]) -> int:
    """The block of a layout change: its producer's, or its only reader's."""
    producers = _nearest(index, flow.before, owners)
    readers = _nearest(index, flow.after, owners)
    for side in (producers, readers):
        if len(side) == 1 and (only := next(iter(side))) != NO_BLOCK:
            return only
    return UNKNOWN if UNKNOWN in producers | readers else NO_BLOCK


def _nearest(index: int, ways: Sequence[Sequence[int]], owners: Sequence[int | None]) -> set[int]:
    """The owners of the nearest kernels in one direction, skipping layout changes."""
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
