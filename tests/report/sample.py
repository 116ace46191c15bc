"""Made-up reports of any size. The graphs of blocks are real exports'; latencies and errors come from a seed."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from attn_export.exporter.artifacts import AttentionBlock, Axis, Float32Node, Gate, Normalization, Step
from attn_export.exporter.records.accuracy import Accuracy, Evaluation, Flip
from attn_export.exporter.records.attention import AttentionCost, TimedBlock
from attn_export.exporter.records.budget import BudgetResult
from attn_export.exporter.records.document import plain
from attn_export.exporter.records.engine import (
    BackendRecord,
    BlockCost,
    BuildOptions,
    BuildRecord,
    EngineCost,
    PrecisionAudit,
    Range,
    SourceFile,
)
from attn_export.exporter.records.environment import Environment
from attn_export.exporter.records.gates import GateActivation, GateActivations, Picture
from attn_export.exporter.records.graphs import GraphOutlines
from attn_export.exporter.records.images import ImageSource, PicturePreprocessing
from attn_export.exporter.records.latency import (
    Conditions,
    GpuConditions,
    GpuProcess,
    Latency,
    Run,
    Schedule,
    Timing,
    WarmUp,
    verdict_of,
)
from attn_export.exporter.records.report import EngineSummary, InputRecord, ModelRecord, OnnxRecord, Report
from attn_export.exporter.records.verdict import Classes, Comparison, QualityRequirement, Verdict
from tests.report.sample_graphs import BODY_AFTER, outline, parts_of

IMAGE_KINDS = ("natural", "noise", "saturated", "tiny", "impulse", "large", "zeros")
Gates = Sequence[tuple[str, str]]


def changed(report: Report, changes: Mapping[str, Any]) -> Report:
    """The report with other values: ``{"latency/timings/1/ratio": 1.2}``."""
    document = plain(report)
    for path, value in changes.items():
        place, (*way, last) = document, path.split("/")
        for key in way:
            place = place[int(key) if isinstance(place, list) else key]
        place[int(last) if isinstance(place, list) else last] = plain(value)
    return msgspec.convert(document, Report)


def sample(
    *,
    blocks: int = 3,
    kind: str = "CBAM",
    runtimes: Sequence[str] = ("eager", "onnxruntime"),
    batches: Sequence[int] = (1,),
    precisions: Sequence[str] = ("float32",),
    shapes: Sequence[tuple[int, ...]] = ((1, 3, 32, 32), (2, 3, 32, 32), (4, 3, 32, 32)),
    rounds: int = 40,
    channels: int = 64,
    side: int = 14,
    stem: str = "model",
    seed: int = 0,
) -> Report:
    """The report of a successful export.

    Args:
        blocks: attention blocks.
        kind: of all of them, "CBAM" or "SE".
        runtimes: that were timed; the first is the baseline.
        batches: that were timed.
        precisions: of the ONNX files.
        shapes: of the validation.
        rounds: of the timing, of three inferences each.
        channels: of each block.
        side: height and width of the spatial maps.
        stem: of the files.
        seed: of latencies and errors.
    """
    draw = np.random.default_rng(seed)
    places = [f"layer{1 + 4 * i // blocks}.{i}.attention" for i in range(blocks)]
    names = [f"{stem}.onnx" if p == "float32" else f"{stem}.{p}.onnx" for p in precisions]
    gates = [gate for place in places for gate in gates_of(place, kind)]
    inventory = tuple(block(i, place, kind, channels) for i, place in enumerate(places))
    files = [
        onnx_file(name, precision, inventory, gates, verdict(gates, precision, shapes, draw))
        for name, precision in zip(names, precisions, strict=True)
    ]
    before, after = (outline(places, kind, state) for state in ("before", "after"))
    return Report(
        created="2026-03-14T15:09:26+00:00",
        command=("attn-export", f"{stem}.pt", "--onnx", "--report", "report.html"),
        model=ModelRecord(
            name=f"{kind.lower()}_resnet8",
            checkpoint=f"/home/me/{stem}.pt",
            sha256="5969" * 16,
            architecture={"backbone": "resnet8", "attention": kind.lower(), "num_classes": 10, "in_channels": 3},
            inputs=(InputRecord("input", "float32", (1, 3, 32, 32)),),
            normalization=Normalization((0.3,), (0.3,)),
            class_names=tuple(map(str, range(10))),
        ),
        artifacts=tuple(files),
        latency=latency(runtimes, batches, names[0], rounds, draw),
        attention_cost=(attention_cost(names[0], places, kind, channels, draw),),
        graphs=tuple(GraphOutlines(name, before, after) for name in names),
        gate_activations=gate_activations(gates, names, channels, side, draw),
        budgets=budgets(names[0]),
        evaluation=evaluation(names),
        environment=Environment(
            platform="Linux-6.1-x86_64",
            python="3.11.7",
            cpu="AMD EPYC",
            cpus=2,
            packages={"attn-export": "0.1.0", "torch": "2.13.0", "onnxruntime": "1.32.0", "numpy": "2.4.6"},
        ),
    )


def evaluation(names: Sequence[str]) -> Evaluation:
    """Each artifact answers one image of 200 otherwise."""
    pixels = base64.b64encode(bytes(range(3 * 4 * 4))).decode()
    own = Accuracy(
        artifact="PyTorch", runtime="eager", top1=0.99, top5=1.0, agreement=1.0, lost=0, gained=0, sqnr_db=None
    )
    return Evaluation(
        source=ImageSource(
            "photos",
            200,
            left_out=("labels.csv",),
            preprocessing=PicturePreprocessing("RGB", (37,), (32, 32), "bilinear", (0.3,) * 3, (0.2,) * 3),
            notes=("a note",),
        ),
        classes=10,
        matched="by their names",
        results=(
            own,
            *(replace(own, artifact=name, runtime="onnxruntime", top1=0.985, lost=1, sqnr_db=38.5) for name in names),
        ),
        flips=(
            Flip("photos/cat/7.png", "cat", {"PyTorch": "cat"} | dict.fromkeys(names, "dog"), 0.125),
            Flip("photos/dog/9.png", "dog", {"PyTorch": "cat"}, 0.1, Picture("real", (3, 4, 4), pixels, 3)),
        ),
        flipped=2,
        requirement=QualityRequirement(top1=0.98),
    )


def gates_of(place: str, kind: str) -> Gates:
    """Module path and kind of each gate of a block."""
    if kind == "CBAM":
        return [(f"{place}.ChannelGate.sigmoid", "channel"), (f"{place}.SpatialGate.sigmoid", "spatial")]
    return [(f"{place}.fc.3", "channel")]


def block(index: int, place: str, kind: str, channels: int) -> AttentionBlock:
    before, after = (len(parts) // 2 for parts in parts_of(kind))
    nodes = tuple(f"node_{index}_{n}" for n in range(after))
    kernel = 7 if kind == "CBAM" else None
    return AttentionBlock(kind, place, channels, 16, kernel, (f"add_{index}",), (f"mul_{index}",), nodes, before)


def onnx_file(
    name: str, precision: str, inventory: tuple[AttentionBlock, ...], gates: Gates, validation: Verdict | None
) -> OnnxRecord:
    kept = [Float32Node(f"{b.place}/ReduceMean", b.place, "ReduceMean", "it sums 196 elements") for b in inventory]
    return OnnxRecord(
        path=name,
        precision=precision,
        kept_in_float32=tuple(kept) if precision == "float16" else (),
        sha256="1c1e" * 16,
        opset=20,
        nodes=sum(len(BODY_AFTER) + len(b.nodes) for b in inventory) + 2,
        inputs=(InputRecord("input", "float32", (2, 3, 32, 32), (Axis("batch", 0),)),),
        outputs=("output",),
        gates=tuple(Gate(path, f"add_{i}") for i, (path, _) in enumerate(gates)),
        cleanup=(Step("infer shapes", 226, 226), Step("fold constants", 226, 70)),
        attention=inventory,
        validation=validation,
    )


def verdict(gates: Gates, precision: str, shapes: Sequence[tuple[int, ...]], draw: np.random.Generator) -> Verdict:
    limit, baseline = (8.0, 4.8e-7) if precision == "float32" else (5.0, 9.8e-4)
    comparisons = []
    for tensor, role in [*((path, "gate") for path, _ in gates), ("output", "output")]:
        of_shape = {"x".join(map(str, shape)): float(draw.lognormal(-0.6, 0.6)) for shape in shapes}
        worst = max(of_shape.values())
        ratios = {image: worst * float(draw.uniform(0.1, 0.9)) for image in IMAGE_KINDS} | {"noise": worst}
        comparisons.append(
            Comparison(tensor, role, "noise", worst * baseline, baseline, limit, {**ratios}, {**of_shape})
        )
    return Verdict(
        "onnxruntime", tuple(comparisons), tuple((shape,) for shape in shapes), images=11, classes=Classes(11, 0)
    )


def latency(
    runtimes: Sequence[str], batches: Sequence[int], artifact: str, rounds: int, draw: np.random.Generator
) -> Latency:
    runs, timings = [], []
    for batch in batches:
        drift = 1 + 0.02 * np.sin(np.linspace(0, 6, rounds))[:, None]
        times = {}
        for index, runtime in enumerate(runtimes):
            typical = 8.0 * batch**0.9 * (0.6**index) * drift * draw.lognormal(0, 0.02, (rounds, 3))
            times[runtime] = typical * np.where(draw.random((rounds, 3)) < 0.03, draw.uniform(1.5, 4), 1)
        timings += [timing(runtime, times[runtime], times[runtimes[0]], batch, artifact) for runtime in runtimes]
        conditions = Conditions(load=0.4, others=0.03, steal=0.0, mhz=(2445.4, 2445.4), governor="performance")
        runs.append(Run(batch, rounds, 3, 14.2, 0.013, reached=True, conditions=conditions))
        timings = [replace(t, baseline=runtimes[0]) for t in timings]
    return Latency(2, (0, 1), Schedule(seconds=20.0), tuple(runs), tuple(timings))


def timing(runtime: str, times: Any, baseline: Any, batch: int, artifact: str) -> Timing:
    """From the times in milliseconds, (rounds, inferences), of a runtime and of the baseline."""
    median, first = float(np.median(times)), times is baseline
    ratio = float(np.median(np.median(times, 1) / np.median(baseline, 1)))
    ends = (1.0, 1.0) if first else (ratio * 0.99, ratio * 1.01)
    return Timing(
        runtime=runtime,
        artifact=None if first else artifact,
        provenance=f"{runtime} 1.0, CPUExecutionProvider",
        device="cpu",
        precision="float32",
        batch=batch,
        clock="host",
        process="shared",
        open_seconds=0.3,
        warm_up=WarmUp(20, 0.4, stable=True),
        samples=int(times.size),
        median_ms=median,
        median_interval_ms=(median * 0.995, median * 1.005),
        p90_ms=float(np.percentile(times, 90)),
        p99_ms=float(np.percentile(times, 99)),
        p99_interval_ms=(float(np.percentile(times, 97)), float(times.max())),
        worst_ms=float(times.max()),
        variation=float(times.std() / times.mean()),
        images_per_second=batch / median * 1e3,
        ratio=ratio,
        ratio_interval=ends,
        verdict="baseline" if first else verdict_of(*ends),
        baseline=runtime,
        baseline_device="cpu",
        device_median_ms=None,
        rounds_ms=tuple(map(tuple, times.round(4).tolist())),
    )


def gpu_conditions() -> GpuConditions:
    return GpuConditions(
        index=0,
        name="NVIDIA H100 80GB HBM3",
        clock_mhz=(1755, 1980, 1980),
        memory_clock_mhz=(2619, 2619, 2619),
        temperature_c=(31, 38, 44),
        power_w=(120.5, 310.0, 402.2),
        throttling=("software thermal slowdown",),
        others=(GpuProcess(123, 512),),
    )


def attention_cost(
    artifact: str, places: Sequence[str], kind: str, channels: int, draw: np.random.Generator
) -> AttentionCost:
    shares = draw.uniform(0.2, 1.0, len(places))
    shares *= 0.08 / shares.sum()
    return AttentionCost(
        artifact=artifact,
        runtime="onnxruntime",
        batch=1,
        with_ms=4.8,
        without_ms=4.46,
        ratio=1.076,
        ratio_interval=(1.064, 1.087),
        verdict="slower",
        macs=12_400_000,
        attention_macs=49_600,
        profiled_ms=4.9,
        attention_ms=0.39,
        unattributed_ms=0.05,
        blocks=tuple(
            TimedBlock(place, kind, channels, 49_600 // len(places), float(share * 4.9), float(share), 14)
            for place, share in zip(places, shares, strict=True)
        ),
    )


def gate_activations(
    gates: Gates, names: Sequence[str], channels: int, side: int, draw: np.random.Generator
) -> GateActivations:
    image = Picture("natural", (3, 32, 32), encoded(draw.integers(0, 255, (32, 32, 3))), 3)
    records = []
    for path, kind in gates:
        shape = (channels,) if kind == "channel" else (side, side)
        values = encoded(255 / (1 + np.exp(-draw.normal(0, 2, shape))))
        differences = {name: float(draw.lognormal(-15, 0.5)) for name in names}
        values_by_source = {"PyTorch": values, **dict.fromkeys(names, values)}
        records.append(GateActivation(path, kind, shape, values_by_source, differences, 1))
    unavailable = {"model.engine": "more outputs would change which kernels it has"}
    return GateActivations(image, tuple(records), 0, (), unavailable)


def encoded(values: Any) -> str:
    return base64.b64encode(np.asarray(values).astype(np.uint8).tobytes()).decode()


def budgets(artifact: str) -> tuple[BudgetResult, ...]:
    of = ("onnxruntime", artifact, 1)
    return (
        BudgetResult("onnxruntime:latency=5", "latency", 5.0, "ms", 4.8, (4.7, 4.9), "kept", *of),
        BudgetResult("ratio=0.5", "ratio", 0.5, "×", 0.6, (0.59, 0.61), "broken", *of),
    )


def engine(stem: str, places: Sequence[str], kind: str) -> EngineSummary:
    """An engine that was built on a machine without a GPU."""
    shape = (1, 3, 32, 32)
    return EngineSummary(
        path=f"{stem}.engine",
        precision="fp32",
        types=PrecisionAudit("fp32", ("BOOL", "FLOAT"), ("FLOAT",), ()),
        sha256="c31319d1" * 8,
        bytes=2532868,
        backend=BackendRecord("tensorrt-rtx", "1.7.1.116", "it builds for GPUs by name"),
        gpus=("sm86",),
        platform="linux-x86_64",
        options=BuildOptions(),
        profile={"input": Range(shape, shape, (8, 3, 32, 32))},
        onnx=SourceFile(f"{stem}.onnx", "1c1e" * 16, {}),
        cost=EngineCost(28, 12, tuple(BlockCost(place, kind, 6, 1, 16, 628, 19720) for place in places)),
        build=BuildRecord(0.141, 682766336),
        kernels=28,
        failed={},
        not_run="no GPU",
    )


def bench_sample(**options: Any) -> Report:
    """The report of a bench without checkpoint or validation."""
    report = sample(**options)
    files = tuple(replace(file, validation=None, cleanup=()) for file in report.onnx_files)
    absent: dict[str, Any] = {"model": None, "gate_activations": None, "evaluation": None}
    return replace(report, artifacts=files, budgets=(), graphs=(), attention_cost=(), **absent)


def bare_sample() -> Report:
    """A report without any optional part."""
    report = bench_sample()
    return replace(report, latency=replace(report.latency, runs=(), timings=()), command=None, artifacts=())
