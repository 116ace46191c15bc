"""Settings of an export."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import CPU, Precision, Target
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.runtimes import DEFAULT_RUNTIMES

if TYPE_CHECKING:
    from attn_export.exporter.network.images import Images
    from attn_export.exporter.records.budget import Budget

DEFAULT_OPSET = 20


@dataclass(frozen=True)
class ExportSettings:
    """What is made of a network.

    Attributes:
        dynamic: which of "batch", "height" and "width" stay open.
        opset: of the ONNX file.
        batch: N of the file where it isn't open, and of the latencies.
        runtimes: that are timed, the first being the baseline; none: nothing is timed.
        threads: for every runtime; all usable CPUs if None.
        schedule: of the timing.
        target: whose preferences shape the graph.
        precisions: of the ONNX files, each with an engine where engines are asked for.
        engine: how engines are built; None: none is.
        device: where PyTorch, and ONNX Runtime, are timed: "cpu" or "cuda".
        images: real ones, (N, C, H, W) float32 as the network takes them; files are judged on them too.
        show: whether the record is to hold what a report shows: graphs, gates, and what attention costs.
        budgets: limits that are checked, for the record.
        command: the command line, for the record; None for a call from Python.
    """

    dynamic: tuple[str, ...] = ("batch",)
    opset: int = DEFAULT_OPSET
    batch: int = 1
    runtimes: tuple[str, ...] = DEFAULT_RUNTIMES
    threads: int | None = None
    schedule: Schedule = field(default_factory=Schedule)
    target: Target = Target.ANY
    precisions: tuple[Precision, ...] = (Precision.FP32,)
    engine: EngineSettings | None = None
    device: str = CPU
    images: "Images | None" = None
    show: bool = False
    budgets: "tuple[Budget, ...]" = ()
    command: tuple[str, ...] | None = None
