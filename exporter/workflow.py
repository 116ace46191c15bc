"""The main job: a network to an ONNX file that is proven and timed."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_export.exporter import onnx_file
from attn_export.exporter.artifacts import LoadedModel, OnnxFile
from attn_export.exporter.environment import usable_cpus, versions
from attn_export.exporter.errors import DisagreementError, UsageError
from attn_export.exporter.files import publish, scratch_folder, sha256_of, write_text
from attn_export.exporter.latency import Schedule, Timing, measure
from attn_export.exporter.memory import forget_weights, give_back, large_blocks_returned
from attn_export.exporter.progress import Progress, Silent, counted
from attn_export.exporter.report.record import record
from attn_export.exporter.report.terminal import number
from attn_export.exporter.runtimes import DEFAULT_RUNTIMES, RUNTIMES, Settings, check_names
from attn_export.exporter.target import Target
from attn_export.exporter.validation.inputs import batches
from attn_export.exporter.validation.verdict import LARGEST_RATIO, Verdict

if TYPE_CHECKING:
    from torch import nn

    from attn_export.exporter.cleanup.apply import Undone
    from attn_export.exporter.validation.oracle import Reference

DEFAULT_OPSET = 20
# On an idle machine the 90th percentile lies within a few percent of the median.
RESTLESS = 1.5


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
    """

    dynamic: tuple[str, ...] = ("batch",)
    opset: int = DEFAULT_OPSET
    batch: int = 1
    runtimes: tuple[str, ...] = DEFAULT_RUNTIMES
    threads: int | None = None
    schedule: Schedule = field(default_factory=Schedule)
    target: Target = Target.ANY


@dataclass(frozen=True)
class ExportResult:
    """What was made.

    Attributes:
        onnx: the file.
        report: the record, as a file.
        verdict: agreeing; a disagreement is an error and no result.
        timings: one for each runtime, in the order asked.
        record: the content of ``report``.
        undone: rewrites that the cleanup left undone because they would have changed the result: defects of rules.
    """

    onnx: Path
    report: Path
    verdict: Verdict
    timings: tuple[Timing, ...]
    record: dict[str, Any]
    undone: tuple["Undone", ...] = ()


def export(
    module: "nn.Module",
    input_shape: Sequence[int],
    out: Path | str = ".",
    *,
    name: str = "model",
    settings: ExportSettings | None = None,
    progress: Progress | None = None,
) -> ExportResult:
    """Export a live module: ``export(module, input_shape=(1, 3, 224, 224), out="build")``.

    Args:
        module: float32, on the CPU; its modes and weights are afterwards as they were.
        input_shape: (N, C, H, W) of its one input; N is the batch that is timed.
        out: folder for ``<name>.onnx`` and ``<name>.report.json``, made if it isn't there.
        name: stem of the files.
        settings: see `ExportSettings`; its batch is taken from ``input_shape``.
        progress: hears what is being done.

    Raises:
        AttnExportError: see `attn_export.exporter.errors`; nothing is left behind then.
    """
    from attn_export.exporter.checkpoint import from_module

    shape = tuple(int(n) for n in input_shape)
    if len(shape) < 2 or min(shape) < 1:
        raise UsageError(f"input_shape is {shape}; expected is (N, C, H, W)")
    settings = replace(settings or ExportSettings(), batch=shape[0])
    return export_loaded(from_module(module, shape[1:]), Path(out), name, settings, progress or Silent())


def export_loaded(
    model: LoadedModel, out: Path, stem: str, settings: ExportSettings, progress: Progress
) -> ExportResult:
    """Compute the reference, capture, clean, prove, time and write; nothing unproven ever has its final name.

    Raises:
        AttnExportError: see `attn_export.exporter.errors`.
    """
    runtimes = check_names(settings.runtimes)
    runtime_settings = Settings(threads=settings.threads or usable_cpus())
    with scratch_folder(out) as scratch:
        truth = compute_reference(model, settings, progress)
        file, undone = make_onnx(model, scratch / f"{stem}.onnx", settings, progress)
        verdict = prove(file, truth, runtime_settings, progress)
        timings = time_all(model, file, runtimes, runtime_settings, settings, progress)
        onnx_file.add_metadata(file.path, metadata(model, verdict))
        document = record(model, file, sha256_of(file.path), verdict, timings, runtime_settings.threads)
        report = scratch / f"{stem}.report.json"
        write_text(report, json.dumps(document, indent=1, allow_nan=False) + "\n")
        onnx_file.publish_with_weights(file.path, out / file.path.name)
        publish(report, out / report.name)
    return ExportResult(out / file.path.name, out / report.name, verdict, tuple(timings), document, undone)


def compute_reference(model: LoadedModel, settings: ExportSettings, progress: Progress) -> "Reference":
    """What the network computes on the images that every artifact is judged on.

    It comes first because it needs the most memory: what it gives back serves all that follows.

    Raises:
        CaptureError, InputError: see `oracle.reference`.
    """
    with progress.stage("Computing the reference in float64") as advance:
        from attn_export.exporter.validation.oracle import reference

        images = batches(model.input_shape, settings.dynamic, settings.batch)
        truth = reference(model, images, counted(advance, len(images)))
        give_back()
        return truth


def make_onnx(
    model: LoadedModel, path: Path, settings: ExportSettings, progress: Progress
) -> tuple[OnnxFile, tuple["Undone", ...]]:
    """Capture and clean; the graph is gone from memory when this returns.

    Returns:
        The file, and the rewrites that were left undone.

    Raises:
        CaptureError, CleanupError, OutputError: as the rooms say.
    """
    with progress.stage("Capturing with PyTorch's exporter"):
        from attn_export.exporter.capture import capture

        graph = capture(model, dynamic=settings.dynamic, batch=settings.batch, opset=settings.opset)
    with progress.stage("Cleaning the graph"):
        from attn_export.exporter.cleanup import clean_graph

        graph, cleaned = clean_graph(graph, settings.target)
        file = onnx_file.write(graph, path)
    forget_weights(graph.model)
    give_back()
    return file, cleaned.undone


def prove(file: OnnxFile, truth: "Reference", settings: Settings, progress: Progress) -> Verdict:
    """Compare the file with PyTorch in float64.

    Raises:
        DisagreementError: it computes something else; the error names where that is first seen.
    """
    from attn_export.exporter.validation.validate import validate

    with progress.stage("Comparing ONNX Runtime with the reference") as advance, large_blocks_returned():
        verdict = validate(file, truth, settings, counted(advance, 2 * len(truth.batches)))
    if verdict.gates_missed:
        progress.note(f"the gates were not compared: {verdict.gates_missed}; the verdict rests on the outputs")
    if (first := verdict.first_disagreement) is not None:
        raise disagreement(first_seen=first, verdict=verdict)
    return verdict


def disagreement(first_seen: Any, verdict: Verdict) -> DisagreementError:
    """The error for an artifact that computes something else."""
    place = f"in the gate of {first_seen.tensor}" if first_seen.role == "gate" else f"in {first_seen.tensor}"
    worst = verdict.worst
    return DisagreementError(
        f"the ONNX file doesn't compute what PyTorch computes: first seen {place} on {first_seen.kind} images, "
        f"error {number(first_seen.error)}, PyTorch's own float32 {number(first_seen.yardstick)}, "
        f"{first_seen.ratio:.0f} times as large (allowed: {LARGEST_RATIO:.0f}); worst in {worst.tensor}, "
        f"{worst.ratio:.0f} times",
        first_seen=first_seen.tensor,
        hint="No file was written. Please report it with the network and the versions (attn-export --version): the "
        "exporter, the cleanup or ONNX Runtime computes it wrong.",
    )


def time_all(
    model: LoadedModel,
    file: OnnxFile,
    names: Sequence[str],
    runtime_settings: Settings,
    settings: ExportSettings,
    progress: Progress,
) -> list[Timing]:
    """Open every runtime and time them against each other.

    Raises:
        RuntimeUnavailableError: one of them can't be had.
    """
    import numpy as np

    if not names:
        return []
    # A runtime that compiles for a shape compiles for the one that is timed.
    shape = (settings.batch, *model.input_shape)
    timed = replace(file, signature=replace(file.signature, input_shape=shape))
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    with ExitStack() as stack:
        opened = []
        for name in names:
            with progress.stage(f"Opening {name}"):
                opened.append(stack.enter_context(RUNTIMES[name](model, timed, runtime_settings)))
        with progress.stage("Timing, in turns") as advance:
            timings = measure(opened, images, settings.schedule, advance)
    for timing in timings:
        if timing.p90_ms > RESTLESS * timing.median_ms:
            progress.note(
                f"{timing.runtime}'s latencies vary a lot (p90 is {timing.p90_ms / timing.median_ms:.1f} times the "
                "median): something else was running here, so don't rely on them"
            )
    return timings


def metadata(model: LoadedModel, verdict: Verdict) -> dict[str, str]:
    """What the ONNX file says about itself, in ``metadata_props``; JSON where it is more than a word."""
    worst = verdict.worst
    properties: dict[str, Any] = {
        "architecture": model.architecture.to_dict() if model.architecture else model.name,
        "source_sha256": model.sha256,
        "normalization": {"mean": model.normalization.mean, "std": model.normalization.std}
        if model.normalization
        else None,
        "class_names": model.class_names,
        "versions": versions(),
        "validation": {
            "agrees": verdict.agrees,
            "runtime": verdict.runtime,
            "worst_tensor": worst.tensor,
            "error": worst.error,
            "yardstick": worst.yardstick,
            "ratio": worst.ratio,
        },
    }
    return {
        f"attn_export.{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in properties.items()
        if value is not None
    }
