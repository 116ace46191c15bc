"""What attention costs in an engine: kernels, bytes, and how many kernels more than the same network without it."""

from attn_export.exporter.artifacts import AttentionBlock
from attn_export.exporter.engine.graph import GraphFacts
from attn_export.exporter.records.engine import BlockCost, KernelReport


def block_costs(report: KernelReport, facts: GraphFacts) -> tuple[BlockCost, ...]:
    """One for each attention block, in the order in which they are computed."""
    return tuple(_cost(block, report, facts) for block in facts.blocks) if report.kernels else ()


def _cost(block: AttentionBlock, report: KernelReport, facts: GraphFacts) -> BlockCost:
    own = set(block.nodes)
    kernels = [kernel for kernel in report.kernels if own.intersection(kernel.nodes)]
    written = [kernel.bytes_written for kernel in kernels]
    return BlockCost(
        module_path=block.place,
        kind=block.kind,
        kernels=len(kernels),
        shared=sum(not own.issuperset(kernel.nodes) for kernel in kernels),
        fused_nodes=len(own.intersection(node for kernel in kernels for node in kernel.nodes)),
        weights_bytes=sum(facts.weights.get(node, 0) for node in own),
        activation_bytes=None if None in written else sum(count for count in written if count is not None),
    )
