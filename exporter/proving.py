"""Artifacts against the reference: what disagrees is an error, and gets no name."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from attn_export.exporter.artifacts import OnnxFile
from attn_export.exporter.building import EngineFile
from attn_export.exporter.errors import DisagreementError
from attn_export.exporter.memory import large_blocks_returned
from attn_export.exporter.precision.kinds import Precision
from attn_export.exporter.progress import Progress, counted
from attn_export.exporter.report.record import verdict_record
from attn_export.exporter.report.tables import number
from attn_export.exporter.runtimes import Settings
from attn_export.exporter.validation.verdict import SIZE, Comparison, Verdict

if TYPE_CHECKING:
    from attn_export.exporter.validation.oracle import Reference


@dataclass(frozen=True)
class Proven:
    """An ONNX file, and that it computes what PyTorch computes."""

    file: OnnxFile
    verdict: Verdict


def prove_all(
    plain: OnnxFile, truth: "Reference", precisions: Sequence[Precision], settings: Settings, progress: Progress
) -> list[Proven]:
    """The files of all precisions, made of the float32 file, each proven.

    The float32 file is proven in any case: its yardstick is so fine that it finds what rounding to float16 would hide.

    Raises:
        DisagreementError: one of them computes something else; the error names where that is first seen.
    """
    verdict = prove(plain, truth, settings, progress)
    proven = []
    for precision in precisions:
        if precision is plain.precision:
            proven.append(Proven(plain, verdict))
            continue
        with progress.stage(f"Changing the graph to {precision}"):
            from attn_export.exporter.precision.typed_file import typed_file

            path = plain.path.with_name(f"{plain.path.stem}{precision.suffix}.onnx")
            file = typed_file(plain, precision, truth.batches, path, settings.threads)
        proven.append(Proven(file, prove(file, truth, settings, progress)))
    return proven


def prove(file: OnnxFile, truth: "Reference", settings: Settings, progress: Progress) -> Verdict:
    """Compare a file with PyTorch in float64.

    Raises:
        DisagreementError: it computes something else; the error names where that is first seen.
    """
    from attn_export.exporter.validation.validate import validate

    title = "Comparing ONNX Runtime with the reference"
    title += f" in {file.precision}" if file.precision is not Precision.FP32 else ""
    with progress.stage(title) as advance, large_blocks_returned():
        verdict = validate(file, truth, settings, counted(advance, 2 * len(truth.batches)))
    if verdict.gates_missed:
        progress.note(f"the gates were not compared: {verdict.gates_missed}; the verdict rests on the outputs")
    if (first := verdict.first_disagreement) is not None:
        raise disagreement("the ONNX file", file.precision, first, verdict)
    return verdict


def prove_engine(
    engine: EngineFile, file: OnnxFile, truth: "Reference", settings: Settings, progress: Progress
) -> dict[str, Any]:
    """Run an engine on this machine's GPU on all images that it takes.

    Its outputs are judged, not its gates: more outputs would change which kernels it has.

    Returns:
        The verdict, for its record.

    Raises:
        DisagreementError: it computes something else.
        RuntimeUnavailableError, UnreadableEngineError: it doesn't run here.
    """
    from attn_export.exporter.runtimes.tensorrt import TensorRT
    from attn_export.exporter.validation.validate import validate_outputs

    with progress.stage("Comparing the engine with the reference") as advance:
        judged = truth.limited_to(engine.taken(file.signature.input_name).covers)
        runtime = TensorRT(engine.path, file.signature, settings)
        verdict = validate_outputs(runtime, file.precision, judged, counted(advance, len(judged.batches)))
    if (first := verdict.first_disagreement) is not None:
        raise disagreement("the engine", file.precision, first, verdict)
    return verdict_record(verdict)


def disagreement(artifact: str, precision: Precision, first: Comparison, verdict: Verdict) -> DisagreementError:
    """The error for an artifact that computes something else."""
    place = f"in the gate of {first.tensor}" if first.role == "gate" else f"in {first.tensor}"
    worst = verdict.worst
    if first.kind == SIZE:
        told = f"{place}, which has another size"
    elif not isfinite(first.error):
        told = f"{place}, which isn't a number on {first.kind} images"
    else:
        told = (
            f"{place} on {first.kind} images, error {number(first.error)}, PyTorch's own {precision.onnx_name} "
            f"{number(first.yardstick)}, {first.ratio:.0f} times as large (allowed: {first.limit:.0f}); "
            f"worst in {worst.tensor}, "
        ) + (f"{worst.ratio:.0f} times" if isfinite(worst.ratio) else "which isn't a number")
    return DisagreementError(
        f"{artifact} doesn't compute what PyTorch computes: first seen {told}",
        first_seen=first.tensor,
        hint="No file was written. Please report it with the network and the versions (attn-export --version): the "
        "exporter, the cleanup or the runtime computes it wrong.",
    )
