"""The time, inputs and outputs of each kernel in ONNX Runtime.

ONNX Runtime runs an optimized graph, with fused operators, other layouts and conversions. Its profiler
(https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html) times the kernels of that graph, which
the session saves; this module joins the two.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import onnx
import onnx_ir as ir

from attn_export.exporter.artifacts import Signature
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime

WARM_UP = 3  # inferences
ENDING = "_kernel_time"
OPTIMIZED, WEIGHTS = "optimized.onnx", "optimized.weights"


@dataclass(frozen=True)
class Kernel:
    """One node of the graph that ONNX Runtime runs.

    Attributes:
        name, op_type: of the node, after fusions.
        reads, writes: names of tensors, weights included.
        ms: for one inference.
    """

    name: str
    op_type: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    ms: float


class _Profiled(OnnxRuntime):
    """A session that writes a profile and its optimized graph to a folder."""

    def __init__(self, model: ir.Model, path: Path, signature: Signature, settings: Settings, folder: Path) -> None:
        super().__init__(path, signature, settings, graph=model)
        self._folder = folder

    def _options(self) -> Any:
        options = super()._options()
        options.enable_profiling = True
        options.profile_file_prefix = str(self._folder / "profile")
        options.optimized_model_filepath = str(self._folder / OPTIMIZED)
        # External weights: a protobuf message holds less than 2 GiB.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
        return options

    def profile(self) -> Path:
        """Stop profiling; returns the trace."""
        return Path(self._session.end_profiling())


def profile(
    model: ir.Model, path: Path, signature: Signature, settings: Settings, arrays: Arrays, inferences: int, folder: Path
) -> tuple[Kernel, ...]:
    """Profile a graph: its kernels in execution order.

    The model has unique node names, and its weights in the file at ``path``; the arrays are one batch, (N, ...) of each
    input. The caller removes the files in ``folder``.

    Raises:
        RuntimeUnavailableError: ONNX Runtime can't run it, or the format of its profile is unknown.
    """
    with _Profiled(model, path, signature, settings, folder) as runtime:
        (folder / WEIGHTS).unlink(missing_ok=True)  # unused, and as large as the file
        inputs = runtime.upload(signature.feeds(arrays))
        for _ in range(WARM_UP + inferences):
            runtime.infer(inputs)
        trace = runtime.profile()
    try:
        nodes = onnx.load(str(folder / OPTIMIZED), load_external_data=False).graph.node
        return _kernels(nodes, json.loads(trace.read_text(encoding="utf-8")), inferences)
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise RuntimeUnavailableError(
            f"ONNX Runtime's profile can't be read: {error}", hint="This version of ONNX Runtime has another format."
        ) from error


def _kernels(
    nodes: Sequence[onnx.NodeProto], events: Sequence[Mapping[str, Any]], inferences: int
) -> tuple[Kernel, ...]:
    """The nodes of the saved graph with the times of their events.

    Kernels in subgraphs of If and Loop have events too; the If's time includes them.
    """
    times: dict[str, list[float]] = {}
    nameless: dict[str, list[str]] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith(ENDING):
            continue
        name, details = event["name"].removesuffix(ENDING), event["args"]
        if name not in times and name == f"{details['op_name']}_{details['node_index']}":
            nameless.setdefault(details["op_name"], []).append(name)
        times.setdefault(name, []).append(event["dur"] / 1e3)
    # Nodes are saved in execution order. Nodes of an expanded ONNX function have no names.
    names = [node.name or nameless[node.op_type].pop(0) for node in nodes]
    return tuple(
        Kernel(name, node.op_type, tuple(node.input), tuple(node.output), _typical(times[name][-inferences:]))
        for name, node in zip(names, nodes, strict=True)
    )


def _typical(times: Sequence[float]) -> float:
    """The interquartile mean: robust like the median, but finer than the profiler's microseconds."""
    cut = len(times) // 4
    return mean(sorted(times)[cut : len(times) - cut])
