"""Checks that an engine computes in the types of its graph.

A strongly typed network should leave TensorRT no choice, but engines called "fp16" have run in float32.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from attn_export.exporter.records.engine import Kernel, KernelReport, MixedKernel

# Other types hold sizes, indices and conditions.
NUMERIC = frozenset("FLOAT FLOAT16 BFLOAT16 INT8 FLOAT8E4M3FN INT4 FLOAT4E2M1".split())
# A graph quantized to uint8 runs in int8, which ends at half of its range.
SHOWN = NUMERIC | {"UINT8"}


@dataclass(frozen=True)
class NodeTypes:
    """The types of a node in the graph.

    Attributes:
        reads: of its inputs, constants included.
        adjacent: on the other side of adjacent Casts, and of the operator's internal computation.
        quantized: that of a layer's weights and of what it reads, where these are quantized.
    """

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    adjacent: frozenset[str] = frozenset()
    quantized: frozenset[str] = frozenset()

    def __or__(self, other: "NodeTypes") -> "NodeTypes":
        return NodeTypes(
            self.reads | other.reads,
            self.writes | other.writes,
            self.adjacent | other.adjacent,
            self.quantized | other.quantized,
        )

    @property
    def all(self) -> frozenset[str]:
        """The union of all three."""
        return self.reads | self.writes | self.adjacent


def mixed_kernels(report: KernelReport, types: Mapping[str, NodeTypes]) -> tuple[MixedKernel, ...]:
    """The kernels that compute in other types than the graph.

    Inputs and outputs of a kernel may have any type that its nodes read or write, or that is adjacent by a Cast: two
    kernels may share a node, and a kernel may compute Casts that it doesn't list. Weights must have a type that the
    nodes read; they reveal the true type of a convolution between two Casts. A quantized layer needs a kernel that
    reads its quantized type; another one in float32, which scales the sums, is allowed beside it.
    """
    every = _joined(types.values())  # for layout changes, which belong to no node
    mixed = []
    for kernel in report.kernels:
        known = [types[node] for node in kernel.nodes if node in types]
        allowed = _joined(known) if known else every
        passing = {*kernel.reads, *kernel.writes} - allowed.all
        held = set(kernel.weights) - allowed.reads
        if (passing | held) & NUMERIC:
            found = sorted((passing | held) & NUMERIC)
            expected = sorted((allowed.all if passing & NUMERIC else allowed.reads) & SHOWN)
            mixed.append(MixedKernel(kernel.name, kernel.nodes, tuple(found), tuple(expected)))
    return (*mixed, *_not_quantized(report, types))


def _not_quantized(report: KernelReport, types: Mapping[str, NodeTypes]) -> Iterator[MixedKernel]:
    """The kernels of quantized layers that run in another type."""
    kernels: dict[str, list[Kernel]] = {}
    for kernel in report.kernels:
        for node in kernel.nodes:
            kernels.setdefault(node, []).append(kernel)
    for node, own in kernels.items():
        wanted, found = types.get(node, NodeTypes()).quantized, {kind for kernel in own for kind in kernel.reads}
        if wanted and not wanted & found:
            yield MixedKernel(own[0].name, (node,), tuple(sorted(found & NUMERIC)), tuple(sorted(wanted)))


def _joined(types: Iterable[NodeTypes]) -> NodeTypes:
    joined = NodeTypes()
    for entry in types:
        joined |= entry
    return joined
