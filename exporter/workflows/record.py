"""The record: everything a run found out, as plain values.

``schema_version`` counts changes that a reader has to know about; docs/report.md describes the fields.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_export.exporter.artifacts import AttentionBlock, LoadedModel, OnnxFile
from attn_export.exporter.engine.sidecar import check_file
from attn_export.exporter.records.artifact import Artifact
from attn_export.exporter.records.latency import Latency, Schedule
from attn_export.exporter.records.results import BuildResult
from attn_export.exporter.records.verdict import FLOOR, LARGEST_RATIO, Comparison, Verdict
from attn_export.exporter.system import describe
from attn_export.exporter.system.files import sha256_of
from attn_export.exporter.system.machine import usable_cpu_numbers
from attn_export.exporter.validation.artifact import ONNX

if TYPE_CHECKING:
    from attn_export.exporter.bundle.golden import GoldenVectors
    from attn_export.exporter.bundle.read import Bundle
    from attn_export.exporter.records.arrays import Array
    from attn_export.exporter.records.gates import GateActivations
    from attn_export.exporter.records.graphs import Outline, Outlined
    from attn_export.exporter.records.results import Benched, CleanResult, Deployed, Proven, ReportAssets, Validated
    from attn_export.exporter.records.verdict import Judgement, Rounding

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
    shown: "ReportAssets",
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
        *(bundle_record(bundle) for one in made for bundle in one.bundles),
    ]
    return assembled(model, artifacts, latency, shown, command)


def assembled(
    model: LoadedModel | None,
    artifacts: Sequence[Mapping[str, Any]],
    latency: Latency,
    shown: "ReportAssets",
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


def shown_record(shown: "ReportAssets") -> dict[str, Any]:
    """What there is to look at."""
    return {
        "attention_cost": [asdict(cost) for cost in shown.costs],
        "graphs": outlines_record(shown.graphs),
        "gate_activations": activations_record(shown.seen),
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


def bundle_record(bundle: Path) -> dict[str, Any]:
    """A deployment bundle."""
    return {"path": bundle.name, "format": "bundle", "sha256": sha256_of(bundle), "bytes": bundle.stat().st_size}


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """A verdict with all its comparisons."""
    return {
        "agrees": verdict.agrees,
        "runtime": verdict.runtime,
        "largest_ratio_allowed": LARGEST_RATIO,
        "baseline_floor": FLOOR,
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
        "applied": [asdict(firing) for firing in result.cleaned.applied],
        "skipped": [asdict(miss) for miss in result.cleaned.skipped],
        "reverted": [asdict(entry) for entry in result.cleaned.reverted],
        "attention": blocks_record(result.cleaned.blocks),
        "parent": {"missed": lineage.missed} if lineage.missed else asdict(lineage),
    }


def rounding_record(rounding: "Rounding") -> dict[str, Any]:
    """A comparison with the parent, with what follows from it."""
    return {**asdict(rounding), "ratio": rounding.ratio}


def build_summary(result: BuildResult) -> dict[str, Any]:
    """The result as plain values."""
    return {
        "onnx": [
            {
                "path": str(r.path),
                "kept_in_float32": [vars(kept) for kept in r.kept],
                "comparison": rounding_record(r.rounding),
            }
            for r in result.retyped
        ],
        "engines": [
            {
                "path": str(engine.path),
                **{key: value for key, value in engine.record.items() if key not in ("kernels", "schema_version")},
                "failed": {gpu: error.message for gpu, error in engine.failed.items()},
            }
            for engine in result.engines
        ],
        "bundles": [str(bundle) for bundle in result.bundles],
    }


def judgement_record(bundle: "Bundle", artifact: Path, judgement: "Judgement") -> dict[str, Any]:
    """Plain values. An error that is no number is null, which JSON has."""
    return {
        "bundle": {"path": str(bundle.path), "sha256": bundle.sha256, "architecture": bundle.architecture},
        "artifact": str(artifact),
        **sample_record(bundle.sample, judgement),
    }


def sample_record(sample: "GoldenVectors", judgement: "Judgement") -> dict[str, Any]:
    """The same without what was judged."""
    return {
        "runtime": judgement.runtime,
        "reference": sample.reference,
        "baseline": sample.baseline,
        "batches": [list(shape) for shape in judgement.batches],
        "agrees": judgement.agrees,
        "outputs": [
            {
                "output": entry.output,
                "kind": entry.kind,
                "error": _finite(entry.error),
                "baseline": entry.baseline,
                "ratio": _finite(entry.ratio),
                "allowed": entry.limit,
                "agrees": entry.agrees,
            }
            for entry in judgement.judged
        ],
    }


def _finite(value: float) -> float | None:
    return value if value not in (float("inf"), float("-inf")) and value == value else None


def validated_record(model: LoadedModel, results: Sequence["Validated"]) -> dict[str, Any]:
    """Plain values of one run."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": {
            "name": model.name,
            "checkpoint": str(model.path) if model.path else None,
            "sha256": model.sha256,
            "input_shape": list(model.input_shape),
            "notes": list(model.notes),
        },
        "agrees": all(result.error is None for result in results),
        "artifacts": [_artifact_record(result) for result in results],
    }


def _artifact_record(result: "Validated") -> dict[str, Any]:
    artifact = result.artifact
    return {
        "path": str(artifact.path),
        "format": artifact.format,
        "sha256": sha256_of(artifact.path),
        "precision": artifact.rounds_to or artifact.precision.onnx_name,
        "source_sha256": artifact.source_sha256 or None,
        "validation": verdict_record(result.verdict) if result.verdict else None,
        **finding_record(result),
    }


def finding_record(result: "Validated") -> dict[str, Any]:
    """What was found besides the verdict."""
    start, error = result.start, result.error
    return {
        "notes": list(result.notes),
        "quantized": asdict(result.quality) if result.quality else None,
        "starts": {**comparison_record(start.comparison), "module": start.module_path, "before": start.before}
        if start
        else None,
        "error": {"message": error.message, "hint": error.hint, "exit_code": error.exit_code} if error else None,
    }


def bench_record(benched: "Benched", command: Sequence[str] | None = None) -> dict[str, Any]:
    """The record of one bench.

    Args:
        benched: what was found out.
        command: the command line, None for a call from Python.
    """
    files = iter(benched.files)
    artifacts = [
        _timed_onnx(artifact, next(files)) if artifact.format == ONNX else _timed_engine(artifact) | {"path": name}
        for artifact, name in zip(benched.artifacts, benched.names, strict=True)
    ]
    return assembled(benched.model, artifacts, benched.latency, benched.shown, command)


def _timed_onnx(artifact: Artifact, file: OnnxFile) -> dict[str, Any]:
    made = onnx_record(file, None)
    return {**made, "precision": artifact.rounds_to} if artifact.quantized else made


def _timed_engine(artifact: Artifact) -> dict[str, Any]:
    own = check_file(artifact.path, trust=True)  # it was checked before it ran
    assert own is not None
    return engine_record(artifact.path, own)


def activations_record(seen: "GateActivations | None") -> dict[str, Any] | None:
    """The gates. Pictures and values are base64 of bytes, row by row: 0 to 255, of a gate for 0 to 1."""
    if seen is None or not (seen.gates or seen.omitted or seen.unavailable):
        return None
    image = None
    if seen.picture is not None:
        height, width, channels = seen.picture.shape
        image = {
            "kind": seen.kind,
            "shape": [channels, height, width],
            "pixels": _base64(seen.picture),
            "channels": channels,
        }
    return {
        "image": image,
        "gates": [
            {
                "module_path": gate.module_path,
                "kind": gate.kind,
                "shape": list(next(iter(gate.values.values())).shape),
                "values": {
                    name: _base64((values * 255).round().astype("uint8")) for name, values in gate.values.items()
                },
                "differences": dict(gate.differences),
                "window": gate.window,
            }
            for gate in seen.gates
        ],
        "left_out": seen.left_out,
        "omitted": [asdict(entry) for entry in seen.omitted],
        "unavailable": dict(seen.unavailable),
    }


def outlines_record(outlined: "Sequence[Outlined]") -> list[dict[str, Any]]:
    """The graphs, before and after."""
    return [
        {
            "artifact": one.artifact,
            "before": outline_record(one.before) if one.before is not None else None,
            "after": outline_record(one.after),
        }
        for one in outlined
    ]


def outline_record(outline: "Outline") -> dict[str, Any]:
    """One graph: its operators in topological order, and for each its block and the operators that it reads."""
    return {
        "operators": list(outline.operators),
        "blocks": list(outline.blocks),
        "inputs": [list(inputs) for inputs in outline.inputs],
        "inventory": [asdict(block) for block in outline.inventory],
    }


def _base64(array: "Array") -> str:
    return b64encode(array.tobytes()).decode("ascii")


def validation_record(
    model: LoadedModel,
    results: "Sequence[Validated]",
    names: Sequence[str],
    files: Sequence[OnnxFile],
    shown: "ReportAssets",
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
        _validated_onnx(result, next(of_onnx)) if result.artifact.format == ONNX else _validated_engine(result, name)
        for result, name in zip(results, names, strict=True)
    ]
    nothing_timed = Latency(threads, usable_cpu_numbers(), Schedule())
    on_gpu = any(result.artifact.format != ONNX for result in results)
    return assembled(model, artifacts, nothing_timed, shown, command, on_gpu=on_gpu)


def _validated_onnx(result: "Validated", file: OnnxFile) -> dict[str, Any]:
    made = onnx_record(file, result.verdict) | finding_record(result)
    return made | {"precision": result.artifact.rounds_to} if result.artifact.quantized else made


def _validated_engine(result: "Validated", name: str) -> dict[str, Any]:
    own = check_file(result.artifact.path, trust=True)  # it was checked before it ran
    assert own is not None
    verdict = verdict_record(result.verdict) if result.verdict else None
    why = result.error.message if result.error and not verdict else None
    made = engine_record(result.artifact.path, own)
    return {**made, "path": name, "validation": verdict, "not_run": why, **finding_record(result)}
