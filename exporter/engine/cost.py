"""The kernels and bytes of the attention blocks in an engine."""

from attn_export.exporter.artifacts import AttentionBlock
from attn_export.exporter.engine.graph import GraphFacts
from attn_export.exporter.records.engine import BlockCost, KernelReport


def block_costs(report: KernelReport, facts: GraphFacts) -> tuple[BlockCost, ...]:
    """One for each attention block, in topological order."""
    return tuple(_cost(block, report, facts) for block in facts.blocks) if report.kernels else ()


def _cost(block: AttentionBlock, report: KernelReport, facts: GraphFacts) -> BlockCost:
    nodes = set(block.nodes)
    kernels = [kernel for kernel in report.kernels if nodes.intersection(kernel.nodes)]
    written = [kernel.bytes_written for kernel in kernels]
    return BlockCost(
        module_path=block.place,
        kind=block.kind,
        kernels=len(kernels),
        shared=sum(not nodes.issuperset(kernel.nodes) for kernel in kernels),
        fused_nodes=len(nodes.intersection(node for kernel in kernels for node in kernel.nodes)),
        weights_bytes=sum(facts.weights.get(node, 0) for node in nodes),
        activation_bytes=None if None in written else sum(count for count in written if count is not None),
    )
