"""A validation as plain values: the same record as an export's, with nothing timed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attn_export.exporter.artifacts import LoadedModel, OnnxFile
from attn_export.exporter.engine.sidecar import check_file
from attn_export.exporter.environment import usable_cpu_numbers
from attn_export.exporter.latency import Latency, Schedule
from attn_export.exporter.report.record import assembled, engine_record, onnx_record, verdict_record
from attn_export.exporter.report.verdicts import finding_record
from attn_export.exporter.validation.artifact import ONNX

if TYPE_CHECKING:
    from attn_export.exporter.showing import Shown
    from attn_export.exporter.validating import Validated


def validation_record(
    model: LoadedModel,
    results: "Sequence[Validated]",
    names: Sequence[str],
    files: Sequence[OnnxFile],
    shown: "Shown",
    *,
    threads: int,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The record of one validation.

    Args:
        model: the network.
        results: one for each artifact.
        names: what the artifacts are called.
        files: those of ONNX among them, with their attention.
        shown: what there is to look at.
        threads: of every runtime.
        command: the command line, None for a call from Python.
    """
    of_onnx = iter(files)
    artifacts = [
        _onnx(result, next(of_onnx)) if result.artifact.format == ONNX else _engine(result, name)
        for result, name in zip(results, names, strict=True)
    ]
    nothing_timed = Latency(threads, usable_cpu_numbers(), Schedule())
    on_gpu = any(result.artifact.format != ONNX for result in results)
    return assembled(model, artifacts, nothing_timed, shown, command, on_gpu=on_gpu)


def _onnx(result: "Validated", file: OnnxFile) -> dict[str, Any]:
    made = onnx_record(file, result.verdict) | finding_record(result)
    return made | {"precision": result.artifact.rounds_to} if result.artifact.quantized else made


def _engine(result: "Validated", name: str) -> dict[str, Any]:
    own = check_file(result.artifact.path, trust=True)  # it was checked before it ran
    assert own is not None
    verdict = verdict_record(result.verdict) if result.verdict else None
    why = result.error.message if result.error and not verdict else None
    made = engine_record(result.artifact.path, own)
    return {**made, "path": name, "validation": verdict, "not_run": why, **finding_record(result)}
