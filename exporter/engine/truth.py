"""Whether an engine computes in the types that its graph says.

A network that is strongly typed should leave no choice. Whether it did is looked up in the kernels, because what was
asked and what was built has differed before: engines called "fp16" that ran in float32.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from attn_export.exporter.engine.kernels import KernelReport

NUMERIC = frozenset(
    "FLOAT FLOAT16 BFLOAT16 INT8 FLOAT8E4M3FN INT4 FLOAT4E2M1".split()
)  # others are sizes, indices and conditions


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


def mixed_kernels(report: KernelReport, types: Mapping[str, frozenset[str]]) -> tuple[MixedKernel, ...]:
    """The kernels that run in another type than the graph says.

    Args:
        report: of the engine.
        types: node -> types of what it reads and writes, as `graph.GraphFacts` has them.
    """
    every = frozenset().union(*types.values()) & NUMERIC
    mixed = []
    for kernel in report.kernels:
        known = [types[node] for node in kernel.nodes if node in types]
        expected = frozenset().union(*known) & NUMERIC if known else every  # a change of layout belongs to no node
        found = {*kernel.reads, *kernel.writes} & NUMERIC
        if not found <= expected:
            mixed.append(
                MixedKernel(kernel.name, kernel.nodes, tuple(sorted(found - expected)), tuple(sorted(expected)))
            )
    return tuple(mixed)
