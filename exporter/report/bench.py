"""A bench as plain values: the same record as an export's, with what a bench doesn't know left out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attn_export.exporter.artifacts import OnnxFile
from attn_export.exporter.engine.sidecar import check_file
from attn_export.exporter.report.record import assembled, engine_record, onnx_record
from attn_export.exporter.validation.artifact import ONNX, Artifact

if TYPE_CHECKING:
    from attn_export.exporter.benching import Benched


def bench_record(benched: "Benched", command: Sequence[str] | None = None) -> dict[str, Any]:
    """The record of one bench.

    Args:
        benched: what was found out.
        command: the command line, None for a call from Python.
    """
    files = iter(benched.files)
    artifacts = [
        _onnx(artifact, next(files)) if artifact.format == ONNX else _engine(artifact) | {"path": name}
        for artifact, name in zip(benched.artifacts, benched.names, strict=True)
    ]
    return assembled(benched.model, artifacts, benched.latency, benched.shown, command)


def _onnx(artifact: Artifact, file: OnnxFile) -> dict[str, Any]:
    made = onnx_record(file, None)
    return {**made, "precision": artifact.rounds_to} if artifact.quantized else made


def _engine(artifact: Artifact) -> dict[str, Any]:
    own = check_file(artifact.path, trust=True)  # it was checked before it ran
    assert own is not None
    return engine_record(artifact.path, own)
