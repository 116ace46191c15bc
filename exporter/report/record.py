"""The record: everything a run found out, as plain values.

``schema_version`` counts changes that a reader has to know about; docs/report.md describes the fields.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attn_export.exporter.artifacts import LoadedModel, OnnxFile
from attn_export.exporter.environment import describe
from attn_export.exporter.inventory import AttentionBlock
from attn_export.exporter.latency import Timing
from attn_export.exporter.validation.verdict import FLOOR, LARGEST_RATIO, Comparison, Verdict

if TYPE_CHECKING:
    from attn_export.exporter.cleaning import CleanResult

SCHEMA_VERSION = 1


def record(
    model: LoadedModel, file: OnnxFile, sha256: str, verdict: Verdict, timings: Sequence[Timing], threads: int
) -> dict[str, Any]:
    """The record of one export."""
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {
            "name": model.name,
            "checkpoint": str(model.path) if model.path else None,
            "sha256": model.sha256,
            "architecture": model.architecture.to_dict() if model.architecture else None,
            "input_shape": list(model.input_shape),
            "normalization": asdict(model.normalization) if model.normalization else None,
            "class_names": list(model.class_names) if model.class_names else None,
            "notes": list(model.notes),
        },
        "artifacts": [
            {
                "path": file.path.name,
                "format": "onnx",
                "precision": "float32",
                "sha256": sha256,
                "opset": file.opset,
                "nodes": file.nodes,
                "input": {
                    "name": file.signature.input_name,
                    "shape": list(file.signature.input_shape),
                    "open_axes": [asdict(axis) for axis in file.signature.axes],
                },
                "outputs": list(file.signature.output_names),
                "gates": [asdict(gate) for gate in file.gates],
                "cleanup": [asdict(step) for step in file.steps],
                "attention": blocks_record(file.blocks),
                "validation": verdict_record(verdict),
            }
        ],
        "latency": {"threads": threads, "timings": [asdict(timing) for timing in timings]},
        "environment": describe(),
    }


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """A verdict with all its comparisons."""
    return {
        "agrees": verdict.agrees,
        "runtime": verdict.runtime,
        "largest_ratio_allowed": LARGEST_RATIO,
        "yardstick_floor": FLOOR,
        "batches": [list(shape) for shape in verdict.batches],
        "gates_missed": verdict.gates_missed,
        "comparisons": [comparison_record(c) for c in verdict.comparisons],
    }


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """A comparison with what follows from it. An error that is no number is written as null, which JSON has."""
    finite = comparison.error != float("inf")
    return {
        **asdict(comparison),
        "error": comparison.error if finite else None,
        "ratio": comparison.ratio if finite else None,
        "agrees": comparison.agrees,
    }


def blocks_record(blocks: Sequence[AttentionBlock]) -> list[dict[str, Any]]:
    """The attention blocks of a graph."""
    return [asdict(block) for block in blocks]


def clean_record(result: "CleanResult") -> dict[str, Any]:
    """The record of one cleanup."""
    lineage = result.lineage
    return {
        "schema_version": SCHEMA_VERSION,
        "path": str(result.path),
        "nodes_before": result.nodes_before,
        "nodes_after": result.nodes_after,
        "steps": [asdict(step) for step in result.cleaned.steps],
        "firings": [asdict(firing) for firing in result.cleaned.firings],
        "near_misses": [asdict(miss) for miss in result.cleaned.near_misses],
        "undone": [asdict(entry) for entry in result.cleaned.undone],
        "attention": blocks_record(result.cleaned.blocks),
        "parent": {"missed": lineage.missed} if lineage.missed else asdict(lineage),
    }
