"""Settings of an export and of a bench, and of the runtimes that both use."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import CPU, Precision, Target
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.images.preprocessing import PictureOptions
from attn_export.exporter.records.budget import Budget
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.records.verdict import QualityRequirement
from attn_export.exporter.runtimes import DEFAULT_RUNTIMES, check_devices, check_names
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system.machine import usable_cpus

if TYPE_CHECKING:
    from attn_export.exporter.images.labelled import LabelledGiven
    from attn_export.exporter.images.read import Given

DEFAULT_OPSET = 20


@dataclass(frozen=True)
class ExportSettings:
    """What is made of a network.

    Attributes:
        dynamic: the dynamic axes among "batch", "height" and "width".
        batch: N of the file where it isn't dynamic, and of the latencies.
        runtimes: that are timed, the first being the baseline; empty: nothing is timed.
        threads: for every runtime; all usable CPUs if None.
        target: whose preferences shape the graph.
        precisions: of the ONNX files, each with an engine if engines are asked for.
        calibration: images for the ranges of int8 and fp8.
        around: the type of what isn't quantized in these: float32 or float16.
        engine: how engines are built; None builds none.
        device: where PyTorch and ONNX Runtime are timed: "cpu" or "cuda".
        images: real ones, see `read_images`; files are compared on at most 16 of them too.
        evaluation: labelled images, see `read_labelled`; None evaluates nothing.
        requirement: that every file has to meet on these.
        show: whether the report has graphs, gate activations, and the cost of attention.
        command: the command line, for the report; None for a call from Python.
    """

    dynamic: tuple[str, ...] = ("batch",)
    opset: int = DEFAULT_OPSET
    batch: int = 1
    runtimes: tuple[str, ...] = DEFAULT_RUNTIMES
    threads: int | None = None
    schedule: Schedule = field(default_factory=Schedule)
    target: Target = Target.ANY
    precisions: tuple[Precision, ...] = (Precision.FP32,)
    calibration: "Given | None" = None
    around: Precision = Precision.FP32
    native_io: bool = False
    engine: EngineSettings | None = None
    device: str = CPU
    images: "Given | None" = None
    pictures: PictureOptions = field(default_factory=PictureOptions)
    evaluation: "LabelledGiven | None" = None
    requirement: QualityRequirement | None = None
    show: bool = False
    budgets: tuple[Budget, ...] = ()
    command: tuple[str, ...] | None = None

    @property
    def files(self) -> tuple[Precision, ...]:
        """The precisions of the ONNX files, without repetition: TF32 engines are built from the float32 file."""
        return tuple(dict.fromkeys(Precision.FP32 if p is Precision.TF32 else p for p in self.precisions))

    @property
    def baselines(self) -> tuple[Precision, ...]:
        """The precisions whose baseline errors the comparisons need."""
        return tuple(dict.fromkeys((Precision.FP32, *(judged_as(p, self.around) for p in self.precisions))))


def judged_as(precision: Precision, around: Precision) -> Precision:
    """The precision whose baseline error a result is compared with.

    Quantized files are judged by the type around, without their rounding. TF32 rounds what it multiplies to float16's
    number of digits.
    """
    if precision.is_quantized:
        return around
    return Precision.FP16 if precision is Precision.TF32 else precision


@dataclass(frozen=True)
class BenchSettings:
    """How artifacts are timed.

    Attributes:
        runtimes: for the module and for ONNX files; empty: eager and onnxruntime. Engines have their own.
        batches: N of each run; empty: the batch that the files fix, or 1.
        cpus: that all runtimes use; None: those that the process may use.
        isolate: whether each runtime that runs a file is timed in an isolated worker.
        show: whether the report has graphs and gate activations.
    """

    runtimes: tuple[str, ...] = ()
    batches: tuple[int, ...] = ()
    threads: int | None = None
    cpus: tuple[int, ...] | None = None
    schedule: Schedule = field(default_factory=lambda: Schedule(seconds=20.0))
    device: str = CPU
    isolate: bool = False
    cost: bool = True
    show: bool = False


def runtime_settings(names: Sequence[str], threads: int | None, device: str) -> Settings:
    """The settings of all runtimes, checked before the work begins.

    Raises:
        UsageError: a name is no runtime, or two are the same on this device.
        RuntimeUnavailableError: the device isn't available.
    """
    settings = Settings(threads or usable_cpus(), device)
    check_devices(check_names(names), settings)
    return settings


def cpu_settings(threads: int | None) -> Settings:
    """The settings of runtimes that compute on the CPU; all usable CPUs if ``threads`` is None."""
    return Settings(threads or usable_cpus())
