"""Records as an export writes them, made up: any latency, without waiting for one."""

import copy
import random
import statistics
from collections.abc import Sequence
from typing import Any

import msgspec

from attn_export.exporter.latency.bootstrap import paired_interval, percentile_interval
from attn_export.exporter.records.document import SCHEMA_VERSION
from attn_export.exporter.records.latency import Timing, verdict_of
from attn_export.exporter.records.report import Report

Record = dict[str, Any]
ROUNDS, INFERENCES = 60, 3
CONFIDENCE = 0.99
FILE = "model.onnx"
ENGINE: Record = {
    "path": "model.engine",
    "format": "engine",
    "precision": "fp32",
    "types": {"asked": "fp32", "graph": ["FLOAT"], "kernels": ["FLOAT"], "mixed": []},
    "sha256": "e" * 64,
    "bytes": 1000,
    "backend": {"name": "tensorrt-rtx", "version": "1.7.1", "why": ""},
    "gpus": ["sm86"],
    "platform": "linux-x86_64",
    "options": {},
    "profile": {"input": {"min": [1, 3, 16, 16], "opt": [1, 3, 16, 16], "max": [8, 3, 16, 16]}},
    "onnx": {"path": FILE, "sha256": "a" * 64, "weights_sha256": {}},
    "cost": {"kernels": 29, "kernels_without_attention": 13, "blocks": []},
    "build": {"seconds": 0.3, "peak_bytes": None},
    "kernels": 29,
    "failed": {},
    "not_run": "no GPU",
    "validation": None,
}
BUNDLE: Record = {"path": "model.bundle.zip", "format": "bundle", "sha256": "d" * 64, "bytes": 1000}


def sample_rounds(
    milliseconds: float, *, noise: float = 0.02, rounds: int = ROUNDS, inferences: int = INFERENCES, seed: int = 0
) -> list[list[float]]:
    """Latencies around a median, with the tail to the right that latencies have."""
    draw = random.Random(seed)
    return [[milliseconds * draw.lognormvariate(0, noise) for _ in range(inferences)] for _ in range(rounds)]


def sample_timing(
    runtime: str,
    milliseconds: float,
    baseline: Record | None = None,
    *,
    artifact: str | None = None,
    batch: int = 1,
    device: str = "cpu",
    precision: str = "float32",
    provenance: str = "",
    **noise: Any,
) -> Record:
    """One timing; its own baseline where none is given.

    Args:
        runtime: its name.
        milliseconds: about its median.
        baseline: the timing that its ratio is to.
        artifact, batch, device, precision, provenance: as in the record.
        noise: see `sample_rounds`.
    """
    rounds = sample_rounds(milliseconds, **{"seed": len(runtime) + batch, **noise})
    spread = sorted(value for turn in rounds for value in turn)
    median = statistics.median(spread)
    ratio, low, high = (1.0, 1.0, 1.0)
    if baseline is not None:
        ratio, low, high = paired_interval(rounds, baseline["rounds_ms"], CONFIDENCE)
    return {
        "runtime": runtime,
        "artifact": artifact,
        "provenance": provenance or f"{runtime} 1.0",
        "device": device,
        "precision": precision,
        "batch": batch,
        "clock": "host",
        "process": "shared",
        "open_seconds": 0.2,
        "warm_up": {"inferences": 20, "seconds": 0.3, "stable": True},
        "samples": len(spread),
        "median_ms": median,
        "median_interval_ms": list(percentile_interval(rounds, 50, CONFIDENCE)),
        "p90_ms": spread[int(0.9 * len(spread))],
        "p99_ms": spread[int(0.99 * len(spread))],
        "p99_interval_ms": list(percentile_interval(rounds, 99, CONFIDENCE)),
        "worst_ms": spread[-1],
        "variation": statistics.pstdev(spread) / statistics.fmean(spread),
        "images_per_second": batch / median * 1e3,
        "ratio": ratio,
        "ratio_interval": [low, high],
        "verdict": "baseline" if baseline is None else verdict_of(low, high),
        "baseline": runtime if baseline is None else baseline["runtime"],
        "baseline_device": device if baseline is None else baseline["device"],
        "device_median_ms": None,
        "rounds_ms": rounds,
    }


def sample_timings(eager_ms: float = 10.0, file_ms: float = 3.0, *, batch: int = 1, **noise: Any) -> list[Record]:
    """PyTorch and a file in ONNX Runtime, in the same run."""
    eager = sample_timing("eager", eager_ms, batch=batch, **noise)
    return [eager, sample_timing("onnxruntime", file_ms, eager, artifact=FILE, batch=batch, **noise)]


def sample_artifact(path: str = FILE, *, precision: str = "float32", differ: int | None = 0) -> Record:
    """An ONNX file that agrees; ``differ`` of its 50 images have another class, None where nothing has classes."""
    classes = None if differ is None else {"images": 50, "differ": differ}
    compared = {"kind": "noise", "error": 4e-7, "baseline": 5e-7, "limit": 8.0, "ratio": 0.8, "agrees": True}
    more = {"ratios": {"noise": 0.8, "natural": 0.5}, "shapes": {"1x3x16x16": 0.8, "2x3x16x16": 0.7}}
    block = {"kind": "CBAM", "module_path": "layer1.0.attention", "channels": 16, "reduction": 16, "kernel": 7}
    names = {"gates": ["gate_1", "gate_2"], "maps": ["map_1", "map_2"], "nodes": ["mul_1", "mul_2"]}
    return {
        "path": path,
        "format": "onnx",
        "precision": precision,
        "kept_in_float32": [],
        "sha256": "a" * 64,
        "opset": 20,
        "nodes": 70,
        "input": {
            "name": "input",
            "shape": [1, 3, 16, 16],
            "dynamic_axes": [{"name": "batch", "index": 0, "minimum": 1}],
        },
        "outputs": ["output"],
        "gates": [{"module_path": "layer1.0.attention.ChannelGate.sigmoid", "tensor": "gate_1"}],
        "cleanup": [{"name": "fold constants", "nodes_before": 226, "nodes_after": 200}],
        "attention": [{**block, **names, "nodes_before": 20}],
        "validation": {
            "agrees": True,
            "runtime": "onnxruntime",
            "policy": "float32",
            "reference": "PyTorch in float64, each image alone",
            "baseline": "PyTorch in float32, perturbed runs",
            "batches": [[1, 3, 16, 16], [2, 3, 16, 16]],
            "images": 66,
            "gates_missed": "",
            "classes": classes,
            "comparisons": [
                {"tensor": "layer1.0.attention.ChannelGate.sigmoid", "role": "gate", **compared, **more},
                {"tensor": "output", "role": "output", **compared, **more},
            ],
        },
    }


def sample_record(timings: Sequence[Record] | None = None, **changes: Any) -> Record:
    """The record of an export of a small CBAM network.

    Args:
        timings: of its latencies; `sample_timings` by default.
        changes: parts that are otherwise, merged into what is there: ``environment={"cpu": "another"}``.
    """
    listed = sample_timings() if timings is None else list(timings)
    batches = dict.fromkeys(timing["batch"] for timing in listed)
    made: Record = {
        "schema_version": SCHEMA_VERSION,
        "created": "2026-11-25T01:11:00+00:00",
        "command": ["attn-export", "model.pt", "--onnx"],
        "model": {
            "name": "cbam_resnet8",
            "checkpoint": "model.pt",
            "sha256": "c" * 64,
            "architecture": {"backbone": "resnet8", "attention": "cbam", "num_classes": 10, "in_channels": 3},
            "input_shape": [3, 16, 16],
            "normalization": None,
            "class_names": None,
            "notes": [],
        },
        "artifacts": [sample_artifact()],
        "latency": {
            "threads": 2,
            "cpus": [0, 1],
            "timed": "one inference, its input already on the device",
            "schedule": {"interval": 0.02, "confidence": CONFIDENCE, "seconds": 20.0},
            "runs": [_run(batch, listed) for batch in batches],
            "timings": listed,
        },
        "attention_cost": [],
        "graphs": [],
        "gate_activations": None,
        "budgets": [],
        "environment": {
            "platform": "Linux-6.1-x86_64",
            "python": "3.13.5",
            "cpu": "A processor",
            "cpus": 2,
            "packages": {"attn-export": "0.1.0", "torch": "2.13.0", "onnxruntime": "1.32.0"},
        },
    }
    return _merged(made, changes)


def _run(batch: int, timings: Sequence[Record]) -> Record:
    rounds = next(timing["rounds_ms"] for timing in timings if timing["batch"] == batch)
    conditions: Record = {"load": 0.4, "others": 0.03, "steal": 0.0, "mhz": None, "governor": None, "gpus": []}
    return {
        "batch": batch,
        "rounds": len(rounds),
        "inferences": len(rounds[0]),
        "seconds": 14.2,
        "interval": 0.013,
        "reached": True,
        "conditions": conditions,
    }


def _merged(base: Record, changes: Record) -> Record:
    """A copy with other parts: objects are merged, everything else is replaced."""
    made = copy.deepcopy(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(made.get(key), dict)
        made[key] = _merged(made[key], value) if both else copy.deepcopy(value)
    return made


def scaled(record: Record, factor: float, runtimes: Sequence[str]) -> Record:
    """A copy in which these runtimes take so many times as long, and everything that follows from it does too."""
    made = copy.deepcopy(record)
    for timing in made["latency"]["timings"]:
        if timing["runtime"] not in runtimes:
            continue
        for key in ("median_ms", "p90_ms", "p99_ms", "worst_ms"):
            timing[key] *= factor
        for key in ("median_interval_ms", "p99_interval_ms"):
            timing[key] = [end * factor for end in timing[key]]
        timing["rounds_ms"] = [[value * factor for value in turn] for turn in timing["rounds_ms"]]
        timing["images_per_second"] /= factor
        if timing["verdict"] != "baseline" and timing["baseline"] not in runtimes:
            timing["ratio"] *= factor
            timing["ratio_interval"] = [end * factor for end in timing["ratio_interval"]]
            timing["verdict"] = verdict_of(*timing["ratio_interval"])
    return made


def as_report(record: Record) -> Report:
    """The record as a type."""
    return msgspec.convert(record, Report)


def as_timing(timing: Record) -> Timing:
    """The timing as a type."""
    return msgspec.convert(timing, Timing)
