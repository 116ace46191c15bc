"""Whether an engine computes in the types that its graph says.

A network that is strongly typed should leave no choice. Whether it did is looked up in the kernels, because what was
asked and what was built has differed before: engines called "fp16" that ran in float32.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from attn_export.exporter.engine.kernels import KernelReport

# Others are sizes, indices and conditions.
NUMERIC = frozenset("FLOAT FLOAT16 BFLOAT16 INT8 FLOAT8E4M3FN INT4 FLOAT4E2M1".split())


@dataclass(frozen=True)
class NodeTypes:
    """What a node reads and writes in the graph, its constants among what it reads."""

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()

    def __or__(self, other: "NodeTypes") -> "NodeTypes":
        return NodeTypes(self.reads | other.reads, self.writes | other.writes)

    @property
    def all(self) -> frozenset[str]:
        """Both."""
        return self.reads | self.writes


@dataclass(frozen=True)
class MixedKernel:
    """A kernel that reads or writes a type which its nodes don't have in the graph."""

    kernel: str
    nodes: tuple[str, ...]
    found: tuple[str, ...]
    expected: tuple[str, ...]

    def __str__(self) -> str:
        place = ", ".join(self.nodes[:3]) + (", …" if len(self.nodes) > 3 else "")
        return f"{place or self.kernel} runs in {'/'.join(self.found)}, the graph says {'/'.join(self.expected)}"


def mixed_kernels(report: KernelReport, types: Mapping[str, NodeTypes]) -> tuple[MixedKernel, ...]:
    """The kernels that run in another type than the graph says.

    What a kernel reads, its weights and what it writes are each compared with the nodes that it computes. The Casts
    of the graph are nodes of its kernels like any other, so what they change is allowed where they stand.

    Args:
        report: of the engine.
        types: of the graph's nodes, as `graph.GraphFacts` has them.
    """
    every = _joined(types.values())
    every = NodeTypes(every.all, every.all)  # a change of layout belongs to no node, and changes no type
    mixed = []
    for kernel in report.kernels:
        known = [types[node] for node in kernel.nodes if node in types]
        allowed = _joined(known) if known else every
        wrong = ({*kernel.reads, *kernel.weights} - allowed.reads) | (set(kernel.writes) - allowed.writes)
        if wrong & NUMERIC:
            found, expected = sorted(wrong & NUMERIC), sorted(allowed.all & NUMERIC)
            mixed.append(MixedKernel(kernel.name, kernel.nodes, tuple(found), tuple(expected)))
    return tuple(mixed)


def _joined(types: Iterable[NodeTypes]) -> NodeTypes:
    joined = NodeTypes()
    for entry in types:
        joined |= entry
    return joined
