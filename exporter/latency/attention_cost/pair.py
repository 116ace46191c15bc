"""The network against its ablated model, interleaved."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import onnx_ir as ir

from attn_export.exporter.artifacts import CUDA, OnnxFile
from attn_export.exporter.graph.attention.ablation import without_attention
from attn_export.exporter.graph.read import named, parsed
from attn_export.exporter.latency.measure import measure
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime, crashing_optimization

NOT_ABLATED = (
    "the network can't be ablated: the graph returns a gated map or a gate, or reads a gate outside of its block"
)


@dataclass(frozen=True)
class Pair:
    """The fields of `AttentionCost` of the same names."""

    with_ms: float
    without_ms: float | None = None
    ratio: float | None = None
    ratio_interval: tuple[float, float] | None = None
    verdict: str | None = None
    missed: str = ""


def timed_pair(
    file: OnnxFile, arrays: Arrays, settings: Settings, schedule: Schedule, advance: Callable[[float], None]
) -> Pair:
    """Time the network and its ablated model, interleaved, in ONNX Runtime with the same weights.

    The file's signature has the shapes of the arrays, one batch (N, ...) of each input.

    Raises:
        RuntimeUnavailableError: ONNX Runtime can't run one of them.
        UnreadableGraphError: the file can't be read.
    """
    content = parsed(file)
    ablated = without_attention(named(content.copy()), file.blocks)
    graphs = [content.model] if ablated is None else [ablated, content.model]
    with ExitStack() as stack:
        opened = [stack.enter_context(_runtime(file, settings, graph)) for graph in graphs]
        timings = measure(opened, arrays, schedule, advance).timings
    if ablated is None:
        return Pair(timings[0].median_ms, missed=NOT_ABLATED)
    without, network = timings
    return Pair(
        with_ms=network.median_ms,
        without_ms=without.median_ms,
        ratio=network.ratio,
        ratio_interval=network.ratio_interval,
        verdict=network.verdict,
    )


def _runtime(file: OnnxFile, settings: Settings, graph: ir.Model) -> OnnxRuntime:
    if settings.device == CUDA:
        from attn_export.exporter.runtimes.onnxruntime_cuda import OnnxRuntimeCuda

        return OnnxRuntimeCuda(file.path, file.signature, settings, graph=graph)
    return OnnxRuntime(file.path, file.signature, settings, graph=graph, without=crashing_optimization(file))
