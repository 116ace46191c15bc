"""The record: everything a run found out, as plain values.

``schema_version`` counts changes that a reader has to know about; docs/report.md describes the fields.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_export.exporter.artifacts import LoadedModel, OnnxFile
from attn_export.exporter.environment import describe
from attn_export.exporter.files import sha256_of
from attn_export.exporter.inventory import AttentionBlock
from attn_export.exporter.latency import Latency
from attn_export.exporter.report.seen import outlines_record, seen_record
from attn_export.exporter.validation.verdict import FLOOR, LARGEST_RATIO, Comparison, Verdict

if TYPE_CHECKING:
    from attn_export.exporter.cleaning import CleanResult
    from attn_export.exporter.deploying import Deployed
    from attn_export.exporter.proving import Proven
    from attn_export.exporter.showing import Shown

SCHEMA_VERSION = 1
ENGINE_FACTS = (
    "sha256",
    "bytes",
    "backend",
    "gpus",
    "platform",
    "options",
    "profile",
    "onnx",
    "cost",
    "build",
    "validation",
    "not_run",
    "failed",
)


def record(
    model: LoadedModel,
    proven: "Sequence[Proven]",
    deployed: "Sequence[Deployed]",
    latency: Latency,
    shown: "Shown",
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The record of one export.

    Args:
        model: the network.
        proven: its ONNX files, as they will be published.
        deployed: what was made of each for the GPU; none if nothing was asked for.
        latency: of everything that was timed.
        shown: what there is to look at.
        command: the command line, None for a call from Python.
    """
    made = list(deployed)
    artifacts = [
        *(onnx_record(artifact.file, artifact.verdict) for artifact in proven),
        *(engine_record(engine.path, engine.record) for one in made for engine in one.engines),
        *(kit_record(kit) for one in made for kit in one.kits),
    ]
    return assembled(model, artifacts, latency, shown, command)


def assembled(
    model: LoadedModel | None,
    artifacts: Sequence[Mapping[str, Any]],
    latency: Latency,
    shown: "Shown",
    command: Sequence[str] | None,
    *,
    on_gpu: bool = False,
) -> dict[str, Any]:
    """A record of any job, made now on this machine.

    Args:
        model: the network, None where no checkpoint was given.
        artifacts: as plain values.
        latency: of everything that was timed.
        shown: what there is to look at.
        command: the command line, None for a call from Python.
        on_gpu: whether a GPU was used for something that wasn't timed.
    """
    with_gpus = on_gpu or any(timing.device != "cpu" for timing in latency.timings)
    return {
        "schema_version": SCHEMA_VERSION,
        "created": now(),
        "command": list(command) if command else None,
        "model": model_record(model) if model else None,
        "artifacts": list(artifacts),
        "latency": latency.to_dict(),
        **shown_record(shown),
        "budgets": [],
        "environment": describe(with_gpus=with_gpus),
    }


def shown_record(shown: "Shown") -> dict[str, Any]:
    """What there is to look at."""
    return {
        "attention_cost": [asdict(cost) for cost in shown.costs],
        "graphs": outlines_record(shown.graphs),
        "gates_seen": seen_record(shown.seen),
    }


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def model_record(model: LoadedModel) -> dict[str, Any]:
    """The network, and how its checkpoint was read."""
    return {
        "name": model.name,
        "checkpoint": str(model.path) if model.path else None,
        "sha256": model.sha256,
        "architecture": model.architecture.to_dict() if model.architecture else None,
        "input_shape": list(model.input_shape),
        "normalization": asdict(model.normalization) if model.normalization else None,
        "class_names": list(model.class_names) if model.class_names else None,
        "notes": list(model.notes),
    }


def onnx_record(file: OnnxFile, verdict: Verdict | None) -> dict[str, Any]:
    """An ONNX file and its verdict, if it was judged."""
    return {
        "path": file.name,
        "format": "onnx",
        "precision": file.precision.onnx_name,
        "kept_in_float32": [asdict(kept) for kept in file.kept],
        "sha256": sha256_of(file.path),
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
        "validation": verdict_record(verdict) if verdict else None,
    }


def engine_record(path: Path, own: Mapping[str, Any]) -> dict[str, Any]:
    """An engine, without what only its own record lists: kernels, and the graph's blocks."""
    kept = {key: value for key, value in own.items() if key in ENGINE_FACTS}
    return {
        "path": path.name,
        "format": "engine",
        "precision": own["precision"]["asked"],
        "types": own["precision"],
        **kept,
        "kernels": own["kernels"]["count"],
    }


def kit_record(kit: Path) -> dict[str, Any]:
    """A build kit."""
    return {"path": kit.name, "format": "kit", "sha256": sha256_of(kit), "bytes": kit.stat().st_size}


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """A verdict with all its comparisons."""
    return {
        "agrees": verdict.agrees,
        "runtime": verdict.runtime,
        "largest_ratio_allowed": LARGEST_RATIO,
        "yardstick_floor": FLOOR,
        "batches": [list(shape) for shape in verdict.batches],
        "images": verdict.images,
        "gates_missed": verdict.gates_missed,
        "classes": asdict(verdict.classes) if verdict.classes else None,
        "comparisons": [comparison_record(c) for c in verdict.comparisons],
    }


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """A comparison with what follows from it. An error that is no number is written as null, which JSON has."""
    finite = comparison.error != float("inf")
    return {
        **asdict(comparison),
        "error": comparison.error if finite else None,
        "ratio": comparison.ratio if finite else None,
        "ratios": {kind: ratio if isfinite(ratio) else None for kind, ratio in comparison.ratios.items()},
        "shapes": {shape: ratio if isfinite(ratio) else None for shape, ratio in comparison.shapes.items()},
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
