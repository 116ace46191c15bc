"""Whether an engine computes in the types that its graph says.

A network that is strongly typed should leave no choice. Whether it did is looked up in the kernels, because what was
asked and what was built has differed before: engines called "fp16" that ran in float32.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from attn_export.exporter.records.engine import KernelReport, MixedKernel

# Others are sizes, indices and conditions.
NUMERIC = frozenset("FLOAT FLOAT16 BFLOAT16 INT8 FLOAT8E4M3FN INT4 FLOAT4E2M1".split())


SIDES = ("reads", "writes", "beside")


@dataclass(frozen=True)
class NodeTypes:
    """The types of a node in the graph.

    Attributes:
        reads: of its inputs, constants included.
        writes: of its outputs.
        beside: of what a Cast makes of these, or made these of, and what the operator is defined to compute in.
    """

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    beside: frozenset[str] = frozenset()

    def __or__(self, other: "NodeTypes") -> "NodeTypes":
        return NodeTypes(self.reads | other.reads, self.writes | other.writes, self.beside | other.beside)

    @property
    def all(self) -> frozenset[str]:
        """Every one."""
        return self.reads | self.writes | self.beside


def mixed_kernels(report: KernelReport, types: Mapping[str, NodeTypes]) -> tuple[MixedKernel, ...]:
    """The kernels that run in another type than the graph says.

    What goes in and out of a kernel may have any type that its nodes read or write, types behind a Cast beside them
    included: a node may be computed by two kernels, and not every Cast is listed where it is computed. Its weights have
    the type that its nodes read: they tell in what a convolution between two Casts really computes.

    Args:
        report: of the engine.
        types: of the graph's nodes, as `graph.GraphFacts` has them.
    """
    every = _joined(types.values())  # a change of layout belongs to no node
    mixed = []
    for kernel in report.kernels:
        known = [types[node] for node in kernel.nodes if node in types]
        allowed = _joined(known) if known else every
        passing = {*kernel.reads, *kernel.writes} - allowed.all
        held = set(kernel.weights) - allowed.reads
        if (passing | held) & NUMERIC:
            found = sorted((passing | held) & NUMERIC)
            expected = sorted((allowed.all if passing & NUMERIC else allowed.reads) & NUMERIC)
            mixed.append(MixedKernel(kernel.name, kernel.nodes, tuple(found), tuple(expected)))
    return tuple(mixed)


def _joined(types: Iterable[NodeTypes]) -> NodeTypes:
    joined = NodeTypes()
    for entry in types:
        joined |= entry
    return joined
