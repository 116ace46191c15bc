"""The kernels and bytes of the attention blocks in an engine."""

from pathlib import Path

from attn_export.exporter.artifacts import AttentionBlock
from attn_export.exporter.engine.build import build
from attn_export.exporter.engine.graph import GraphFacts
from attn_export.exporter.engine.kernels import read_log
from attn_export.exporter.engine.settings import EngineSettings, Plan
from attn_export.exporter.errors import EngineError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.attention.ablation import without_attention
from attn_export.exporter.graph.read import named, read
from attn_export.exporter.records.engine import BlockCost, KernelReport
from attn_export.exporter.system.progress import Progress
from attn_export.exporter.system.scratch import scratch_folder


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


def ablated_kernels(plan: Plan, settings: EngineSettings, scratch: Path, progress: Progress) -> int | None:
    """The number of kernels of the ablated model; None if unknown."""
    if not plan.facts.blocks or not settings.count_ablated or not plan.backend.is_rtx:
        return None
    with progress.stage("Counting the kernels without attention") as advance, scratch_folder(scratch) as folder:
        model = without_attention(named(read(plan.facts.path)), plan.facts.blocks)
        if model is None:
            return None
        path = folder / "ablated.onnx"
        onnx_file.save(model, path)
        del model
        try:
            ablated = build(plan.backend, path, plan.profile, plan.architectures, settings.options, advance=advance)
        except EngineError:  # only this number is lost
            return None
        return len(read_log(ablated.log).kernels) or None
