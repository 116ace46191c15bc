"""How long each kernel of ONNX Runtime takes, and what it reads and writes.

ONNX Runtime doesn't run the graph that it is given: it fuses operators, changes the layout of maps and puts conversions
in between. Its profiler (https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html) times the
kernels of the graph that it made of it, and the session saves that graph, so both are read and put together.
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
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime

WARM_UP = 3  # inferences that don't count
ENDING = "_kernel_time"
OPTIMIZED, WEIGHTS = "optimized.onnx", "optimized.weights"


@dataclass(frozen=True)
class Kernel:
    """One node of the graph that ONNX Runtime runs.

    Attributes:
        name, op_type: of the node, after fusions.
        reads, writes: names of tensors; a weight has a name too.
        ms: in one inference.
    """

    name: str
    op_type: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    ms: float


class _Profiled(OnnxRuntime):
    """A session that keeps a profile of every inference, and saves the graph that it runs, in a folder."""

    def __init__(self, model: ir.Model, path: Path, signature: Signature, settings: Settings, folder: Path) -> None:
        super().__init__(path, signature, settings, graph=model)
        self._folder = folder

    def _options(self) -> Any:
        options = super()._options()
        options.enable_profiling = True
        options.profile_file_prefix = str(self._folder / "profile")
        options.optimized_model_filepath = str(self._folder / OPTIMIZED)
        # Weights beside the graph: a protobuf message holds less than 2 GiB.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
        return options

    def profile(self) -> Path:
        """End it."""
        return Path(self._session.end_profiling())


def profile(
    model: ir.Model,
    path: Path,
    signature: Signature,
    settings: Settings,
    images: Array,
    inferences: int,
    folder: Path,
) -> tuple[Kernel, ...]:
    """Run the graph and see how long each kernel takes.

    Args:
        model: every node has a name of its own. Its weights are places in the file.
        path: the ONNX file.
        signature: of the network, with the shape of the images.
        settings: alike for all runtimes; the CPU provider runs it, whatever device they name.
        images: one batch, (N, C, H, W) float32.
        inferences: that count.
        folder: for the profile; what is written there is the caller's to remove.

    Returns:
        In the order in which they run.

    Raises:
        RuntimeUnavailableError: ONNX Runtime can't run it, or its profile isn't of the form that is known.
    """
    with _Profiled(model, path, signature, settings, folder) as runtime:
        (folder / WEIGHTS).unlink(missing_ok=True)  # nothing needs them, and they are as large as the file
        given = runtime.upload({signature.input_name: images})
        for _ in range(WARM_UP + inferences):
            runtime.infer(given)
        trace = runtime.profile()
    try:
        nodes = onnx.load(str(folder / OPTIMIZED), load_external_data=False).graph.node
        return _kernels(nodes, json.loads(trace.read_text(encoding="utf-8")), inferences)
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise RuntimeUnavailableError(
            f"ONNX Runtime's profile can't be read: {error}",
            runtime=OnnxRuntime.name,
            hint="Its form isn't promised to stay; this version's isn't known.",
        ) from error


def _kernels(
    nodes: Sequence[onnx.NodeProto], events: Sequence[Mapping[str, Any]], inferences: int
) -> tuple[Kernel, ...]:
    """The nodes of the saved graph with the times of their events.

    Kernels in the bodies of If and Loop have events too; their time is part of the If's.

    Raises:
        LookupError: a node has no event.
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
    # Nodes are saved in the order in which they run. What a function of ONNX was expanded to has no names.
    names = [node.name or nameless[node.op_type].pop(0) for node in nodes]
    return tuple(
        Kernel(name, node.op_type, tuple(node.input), tuple(node.output), _typical(times[name][-inferences:]))
        for name, node in zip(names, nodes, strict=True)
    )


def _typical(times: Sequence[float]) -> float:
    """The mean of the middle half: as robust as the median, and finer than the profiler's whole microseconds."""
    cut = len(times) // 4
    return mean(sorted(times)[cut : len(times) - cut])
