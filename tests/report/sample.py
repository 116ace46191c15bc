"""Records as runs leave them, of any size, made without a network: what a page has to cope with.

The graphs of blocks are those of real exports; latencies and errors are drawn from a seed.
"""

import base64
import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.report.sample_graphs import BODY_AFTER, outline, parts_of

Record = dict[str, Any]

IMAGE_KINDS = ("natural", "noise", "saturated", "tiny", "hot", "large", "zeros")


def sample(
    *,
    blocks: int = 3,
    kind: str = "CBAM",
    runtimes: Sequence[str] = ("eager", "onnxruntime"),
    batches: Sequence[int] = (1,),
    precisions: Sequence[str] = ("float32",),
    shapes: Sequence[Sequence[int]] = ((1, 3, 32, 32), (2, 3, 32, 32), (4, 3, 32, 32)),
    rounds: int = 40,
    channels: int = 64,
    side: int = 14,
    stem: str = "model",
    seed: int = 0,
) -> Record:
    """A record of one export in which everything went well.

    Args:
        blocks: attention blocks.
        kind: of all of them, "CBAM" or "SE".
        runtimes: that were timed; the first is the baseline.
        batches: that were timed.
        precisions: of the ONNX files.
        shapes: that artifacts were judged on.
        rounds: of the timing, of three inferences each.
        channels: of each block.
        side: height and width of the spatial maps.
        stem: of the files.
        seed: of all that is drawn.
    """
    draw = np.random.default_rng(seed)
    places = [f"layer{1 + 4 * i // blocks}.{i}.attention" for i in range(blocks)]
    names = [f"{stem}.onnx" if p == "float32" else f"{stem}.{p}.onnx" for p in precisions]
    gates = [gate for place in places for gate in gates_of(place, kind)]
    return {
        "schema_version": 1,
        "created": "2026-03-14T15:09:26+00:00",
        "command": ["attn-export", f"{stem}.pt", "--onnx", "--report", "report.html"],
        "model": model(stem, kind),
        "artifacts": [
            artifact(name, precision, places, gates, kind, channels, shapes, draw)
            for name, precision in zip(names, precisions, strict=True)
        ],
        "latency": latency(runtimes, batches, names[0], rounds, draw),
        "attention_cost": [attention_cost(names[0], places, kind, channels, draw)],
        "graphs": [{"artifact": n, **{w: outline(places, kind, w) for w in ("before", "after")}} for n in names],
        "gate_activations": gate_activations(gates, names, channels, side, draw),
        "budgets": budgets(names[0]),
        "environment": {
            "platform": "Linux-6.1-x86_64",
            "python": "3.11.7",
            "cpu": "AMD EPYC",
            "cpus": 2,
            "packages": {"attn-export": "0.1.0", "torch": "2.13.0", "onnxruntime": "1.32.0", "numpy": "2.4.6"},
        },
    }  # fmt: skip


def gates_of(place: str, kind: str) -> list[tuple[str, str]]:
    """Module path and kind of each gate of a block."""
    if kind == "CBAM":
        return [(f"{place}.ChannelGate.sigmoid", "channel"), (f"{place}.SpatialGate.sigmoid", "spatial")]
    return [(f"{place}.fc.3", "channel")]


def model(stem: str, kind: str) -> Record:
    return {
        "name": f"{kind.lower()}_resnet8",
        "checkpoint": f"/home/me/{stem}.pt",
        "sha256": "5969" * 16,
        "architecture": {"backbone": "resnet8", "attention": kind.lower(), "num_classes": 10, "in_channels": 3},
        "input_shape": [3, 32, 32],
        "normalization": {"mean": [0.3], "std": [0.3]},
        "class_names": [str(digit) for digit in range(10)],
        "notes": [],
    }


def artifact(
    name: str,
    precision: str,
    places: Sequence[str],
    gates: Sequence[tuple[str, str]],
    kind: str,
    channels: int,
    shapes: Sequence[Sequence[int]],
    draw: np.random.Generator,
) -> Record:
    before, after = (len(parts) // 2 for parts in parts_of(kind))
    return {
        "path": name,
        "format": "onnx",
        "precision": precision,
        "kept_in_float32": [
            {"node": f"{p}/ReduceMean", "module_path": p, "op_type": "ReduceMean", "reason": "it sums 196 elements"}
            for p in places
            if precision == "float16"
        ],
        "sha256": "1c1e" * 16,
        "opset": 20,
        "nodes": (len(BODY_AFTER) + after) * len(places) + 2,
        "input": {"name": "input", "shape": [2, 3, 32, 32], "open_axes": [{"name": "batch", "index": 0, "minimum": 1}]},
        "outputs": ["output"],
        "gates": [{"module_path": path, "tensor": f"add_{i}"} for i, (path, _) in enumerate(gates)],
        "cleanup": [
            {"name": "infer shapes", "nodes_before": 226, "nodes_after": 226},
            {"name": "fold constants", "nodes_before": 226, "nodes_after": 70},
        ],
        "attention": [
            {
                "kind": kind,
                "module_path": place,
                "channels": channels,
                "reduction": 16,
                "kernel": 7 if kind == "CBAM" else None,
                "gates": [f"add_{i}"],
                "maps": [f"mul_{i}"],
                "nodes": [f"node_{i}_{n}" for n in range(after)],
                "nodes_before": before,
            }
            for i, place in enumerate(places)
        ],
        "validation": validation(gates, precision, shapes, draw),
    }


def validation(
    gates: Sequence[tuple[str, str]], precision: str, shapes: Sequence[Sequence[int]], draw: np.random.Generator
) -> Record:
    limit, baseline = (8.0, 4.8e-7) if precision == "float32" else (5.0, 9.8e-4)
    comparisons = []
    for tensor, role in [*((path, "gate") for path, _ in gates), ("output", "output")]:
        of_shape = {"x".join(map(str, shape)): float(draw.lognormal(-0.6, 0.6)) for shape in shapes}
        worst = max(of_shape.values())
        ratios = {image: worst * float(draw.uniform(0.1, 0.9)) for image in IMAGE_KINDS} | {"noise": worst}
        comparisons.append(
            {
                "tensor": tensor,
                "role": role,
                "kind": "noise",
                "error": worst * baseline,
                "baseline": baseline,
                "limit": limit,
                "ratios": ratios,
                "ratio": worst,
                "agrees": worst <= limit,
                "shapes": of_shape,
            }
        )
    return {
        "agrees": all(c["agrees"] for c in comparisons),
        "runtime": "onnxruntime",
        "largest_ratio_allowed": 8.0,
        "baseline_floor": 4.76837158203125e-07,
        "batches": [list(shape) for shape in shapes],
        "images": 11,
        "gates_missed": "",
        "classes": {"images": 11, "differ": 0},
        "comparisons": comparisons,
    }


def latency(
    runtimes: Sequence[str], batches: Sequence[int], artifact: str, rounds: int, draw: np.random.Generator
) -> Record:
    runs, timings = [], []
    for batch in batches:
        drift = 1 + 0.02 * np.sin(np.linspace(0, 6, rounds))[:, None]
        taken = {}
        for index, runtime in enumerate(runtimes):
            typical = 8.0 * batch**0.9 * (0.6**index)
            times = typical * drift * draw.lognormal(0, 0.02, (rounds, 3))
            taken[runtime] = times * np.where(draw.random((rounds, 3)) < 0.03, draw.uniform(1.5, 4), 1)
        timings += [timing(runtime, taken, runtimes[0], batch, artifact) for runtime in runtimes]
        runs.append(run(batch, rounds))
    return {
        "threads": 2,
        "cpus": [0, 1],
        "timed": "one inference, its input already on the device: the call and waiting; copies are outside",
        "asked": {"interval": 0.02, "confidence": 0.99, "seconds": 20.0},
        "runs": runs,
        "timings": timings,
    }


def run(batch: int, rounds: int) -> Record:
    return {
        "batch": batch,
        "rounds": rounds,
        "inferences": 3,
        "seconds": 14.2,
        "interval": 0.013,
        "reached": True,
        "conditions": {
            "load": 0.4,
            "others": 0.03,
            "steal": 0.0,
            "mhz": [2445.4, 2445.4],
            "governor": "performance",
            "gpus": [],
        },
    }


def timing(runtime: str, taken: dict[str, Any], baseline: str, batch: int, artifact: str) -> Record:
    times, other = taken[runtime], taken[baseline]
    median = float(np.median(times))
    ratio = float(np.median(np.median(times, 1) / np.median(other, 1)))
    ends = [ratio * 0.99, ratio * 1.01] if runtime != baseline else [1.0, 1.0]
    known = "faster" if ends[1] < 0.99 else "slower" if ends[0] > 1.01 else "can't tell"
    verdict = "baseline" if runtime == baseline else known
    return {
        "runtime": runtime,
        "artifact": None if runtime == baseline else artifact,
        "provenance": f"{runtime} 1.0, CPUExecutionProvider",
        "device": "cpu",
        "precision": "float32",
        "batch": batch,
        "clock": "host",
        "process": "shared",
        "open_seconds": 0.3,
        "warm_up": {"inferences": 20, "seconds": 0.4, "stable": True},
        "samples": int(times.size),
        "median_ms": median,
        "median_interval_ms": [median * 0.995, median * 1.005],
        "p90_ms": float(np.percentile(times, 90)),
        "p99_ms": float(np.percentile(times, 99)),
        "p99_interval_ms": [float(np.percentile(times, 97)), float(times.max())],
        "worst_ms": float(times.max()),
        "variation": float(times.std() / times.mean()),
        "images_per_second": batch / median * 1e3,
        "ratio": ratio,
        "ratio_interval": ends,
        "verdict": verdict,
        "baseline": baseline,
        "baseline_device": "cpu",
        "device_median_ms": None,
        "rounds_ms": times.round(4).tolist(),
    }  # fmt: skip


def gpu_conditions() -> Record:
    return {
        "index": 0,
        "name": "NVIDIA H100 80GB HBM3",
        "clock_mhz": [1755, 1980, 1980],
        "memory_clock_mhz": [2619, 2619, 2619],
        "temperature_c": [31, 38, 44],
        "power_w": [120.5, 310.0, 402.2],
        "throttling": ["software thermal slowdown"],
        "others": [{"pid": 123, "memory_mib": 512}],
    }


def attention_cost(artifact: str, places: Sequence[str], kind: str, channels: int, draw: np.random.Generator) -> Record:
    share = draw.uniform(0.2, 1.0, len(places))
    share *= 0.08 / share.sum()
    return {
        "artifact": artifact,
        "runtime": "onnxruntime",
        "batch": 1,
        "with_ms": 4.8,
        "without_ms": 4.46,
        "ratio": 1.076,
        "ratio_interval": [1.064, 1.087],
        "verdict": "slower",
        "macs": 12_400_000,
        "attention_macs": 49_600,
        "profiled_ms": 4.9,
        "attention_ms": 0.39,
        "unattributed_ms": 0.05,
        "blocks": [
            {
                "module_path": place,
                "kind": kind,
                "channels": channels,
                "macs": 49_600 // len(places),
                "ms": float(part * 4.9),
                "share": float(part),
                "kernels": 14,
            }
            for place, part in zip(places, share, strict=True)
        ],
        "missed": "",
    }


def gate_activations(
    gates: Sequence[tuple[str, str]], names: Sequence[str], channels: int, side: int, draw: np.random.Generator
) -> Record:
    image = draw.integers(0, 255, (32, 32, 3))
    seen = []
    for path, kind in gates:
        shape = [channels] if kind == "channel" else [side, side]
        values = encoded(255 / (1 + np.exp(-draw.normal(0, 2, shape))))
        seen.append(
            {
                "module_path": path,
                "kind": kind,
                "shape": shape,
                "values": {"PyTorch": values, **dict.fromkeys(names, values)},
                "differences": {name: float(draw.lognormal(-15, 0.5)) for name in names},
            }
        )
    return {
        "image": {"kind": "natural", "shape": [3, 32, 32], "pixels": encoded(image), "channels": 3},
        "gates": seen,
        "unavailable": {"model.engine": "more outputs would change which kernels it has"},
    }


def encoded(values: Any) -> str:
    return base64.b64encode(np.asarray(values).astype(np.uint8).tobytes()).decode()


def budgets(artifact: str) -> list[Record]:
    of = {"runtime": "onnxruntime", "artifact": artifact, "batch": 1, "reason": ""}
    latency = {"metric": "latency", "limit": 5.0, "unit": "ms", "value": 4.8, "interval": [4.7, 4.9], "state": "kept"}
    ratio = {"metric": "ratio", "limit": 0.5, "unit": "×", "value": 0.6, "interval": [0.59, 0.61], "state": "broken"}
    return [{"budget": "onnxruntime:latency=5", **latency, **of}, {"budget": "ratio=0.5", **ratio, **of}]


def engine(stem: str, places: Sequence[str], kind: str) -> Record:
    """An engine's entry, built where there is no GPU."""
    return {
        "path": f"{stem}.engine",
        "format": "engine",
        "precision": "fp32",
        "types": {"asked": "fp32", "graph": ["BOOL", "FLOAT"], "kernels": ["FLOAT"], "mixed": []},
        "sha256": "c31319d1" * 8,
        "bytes": 2532868,
        "backend": {"name": "tensorrt-rtx", "version": "1.7.1.116", "why": "it builds for GPUs by name"},
        "gpus": ["sm86"],
        "failed": {},
        "platform": "linux-x86_64",
        "options": {"tf32": False},
        "profile": {"input": {"min": [1, 3, 32, 32], "opt": [1, 3, 32, 32], "max": [8, 3, 32, 32]}},
        "onnx": {"path": f"{stem}.onnx", "sha256": "1c1e" * 16, "weights_sha256": {}},
        "cost": {
            "kernels": 28,
            "kernels_without_attention": 12,
            "blocks": [
                {
                    "module_path": place,
                    "kind": kind,
                    "kernels": 6,
                    "shared": 1,
                    "fused_nodes": 16,
                    "weights_bytes": 628,
                    "activation_bytes": 19720,
                }
                for place in places
            ],
        },
        "build": {"seconds": 0.141, "peak_bytes": 682766336},
        "validation": None,
        "not_run": "no GPU",
        "kernels": 28,
    }


def bench_sample(**options: Any) -> Record:
    """A record of `bench`: no checkpoint, nothing compared."""
    made = copy.deepcopy(sample(**options))
    made["model"] = None
    for entry in made["artifacts"]:
        entry.update(validation=None, cleanup=[])
    return made | {"gate_activations": None, "budgets": [], "graphs": [], "attention_cost": []}


def bare_sample() -> Record:
    """As little as a record of this schema can hold: everything that may be absent is."""
    made = bench_sample()
    made["latency"].update(runs=[], timings=[])
    return made | {"command": None, "artifacts": []}
