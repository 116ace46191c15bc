"""Made-up reports of an export: any latency, without waiting for one."""

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct, structs

from attn_export.exporter.artifacts import AttentionBlock, Axis, Gate, Step
from attn_export.exporter.latency.bootstrap import paired_interval, percentile_interval
from attn_export.exporter.records.engine import (
    BackendRecord,
    BuildOptions,
    BuildRecord,
    EngineCost,
    PrecisionAudit,
    Range,
    SourceFile,
)
from attn_export.exporter.records.environment import Environment
from attn_export.exporter.records.latency import Conditions, Latency, Run, Schedule, Timing, WarmUp, verdict_of
from attn_export.exporter.records.report import (
    BundleRecord,
    EngineSummary,
    InputRecord,
    ModelRecord,
    OnnxRecord,
    Report,
)
from attn_export.exporter.records.verdict import Classes, Comparison, Verdict

Record = TypeVar("Record", bound=Struct)
ROUNDS, INFERENCES = 60, 3
CONFIDENCE = 0.99
FILE = "model.onnx"
SHAPE = (1, 3, 16, 16)
ENGINE = EngineSummary(
    path="model.engine",
    precision="fp32",
    types=PrecisionAudit("fp32", ("FLOAT",), ("FLOAT",), ()),
    sha256="e" * 64,
    bytes=1000,
    backend=BackendRecord("tensorrt-rtx", "1.7.1"),
    gpus=("sm86",),
    platform="linux-x86_64",
    options=BuildOptions(),
    profile={"input": Range(SHAPE, SHAPE, (8, 3, 16, 16))},
    onnx=SourceFile(FILE, "a" * 64, {}),
    cost=EngineCost(29, 13, ()),
    build=BuildRecord(0.3, None),
    kernels=29,
    failed={},
    not_run="no GPU",
)
BUNDLE = BundleRecord("model.bundle.zip", "d" * 64, 1000)


def sample_rounds(
    milliseconds: float, *, noise: float = 0.02, rounds: int = ROUNDS, inferences: int = INFERENCES, seed: int = 0
) -> tuple[tuple[float, ...], ...]:
    """Latencies around a median, with the tail to the right that latencies have."""
    draw = random.Random(seed)
    return tuple(tuple(milliseconds * draw.lognormvariate(0, noise) for _ in range(inferences)) for _ in range(rounds))


def sample_timing(
    runtime: str,
    milliseconds: float,
    baseline: Timing | None = None,
    *,
    artifact: str | None = None,
    batch: int = 1,
    device: str = "cpu",
    precision: str = "float32",
    provenance: str = "",
    **noise: Any,
) -> Timing:
    """One timing; its own baseline where none is given.

    Args:
        runtime: its name.
        milliseconds: about its median.
        baseline: the timing that its ratio is to.
        artifact, batch, device, precision, provenance: as in the record.
        noise: see `sample_rounds`.
    """
    rounds = sample_rounds(milliseconds, **{"seed": len(runtime) + batch, **noise})
    times = sorted(time for values in rounds for time in values)
    median = statistics.median(times)
    ratio, low, high = (1.0, 1.0, 1.0) if baseline is None else paired_interval(rounds, baseline.rounds_ms, CONFIDENCE)
    return Timing(
        runtime=runtime,
        artifact=artifact,
        provenance=provenance or f"{runtime} 1.0",
        device=device,
        precision=precision,
        batch=batch,
        clock="host",
        process="shared",
        open_seconds=0.2,
        warm_up=WarmUp(20, 0.3, stable=True),
        samples=len(times),
        median_ms=median,
        median_interval_ms=percentile_interval(rounds, 50, CONFIDENCE),
        p90_ms=times[int(0.9 * len(times))],
        p99_ms=times[int(0.99 * len(times))],
        p99_interval_ms=percentile_interval(rounds, 99, CONFIDENCE),
        worst_ms=times[-1],
        variation=statistics.pstdev(times) / statistics.fmean(times),
        images_per_second=batch / median * 1e3,
        ratio=ratio,
        ratio_interval=(low, high),
        verdict="baseline" if baseline is None else verdict_of(low, high),
        baseline=runtime if baseline is None else baseline.runtime,
        baseline_device=device if baseline is None else baseline.device,
        device_median_ms=None,
        rounds_ms=rounds,
    )


def sample_timings(eager_ms: float = 10.0, file_ms: float = 3.0, *, batch: int = 1, **noise: Any) -> list[Timing]:
    """PyTorch and a file in ONNX Runtime, in the same run."""
    eager = sample_timing("eager", eager_ms, batch=batch, **noise)
    return [eager, sample_timing("onnxruntime", file_ms, eager, artifact=FILE, batch=batch, **noise)]


def sample_artifact(
    path: str = FILE, *, precision: str = "float32", differ: int | None = 0, error: float | None = 4e-7, **changes: Any
) -> OnnxRecord:
    """An ONNX file that agrees.

    Args:
        path: its name.
        precision: its own.
        differ: how many of its 50 images have another class; None where nothing has classes.
        error: of the worst gate, with a baseline error of 5e-7.
        changes: other fields.
    """
    block = "layer1.0.attention"
    gate = f"{block}.ChannelGate.sigmoid"
    comparisons = (
        Comparison(gate, "gate", "noise", error, 5e-7, 8.0, {"noise": 0.8}, {"1x3x16x16": 0.8}),
        Comparison("output", "output", "noise", 4e-7, 5e-7, 8.0, {"noise": 0.8}, {"1x3x16x16": 0.8}),
    )
    record = OnnxRecord(
        path=path,
        precision=precision,
        kept_in_float32=(),
        sha256="a" * 64,
        opset=20,
        nodes=70,
        inputs=(InputRecord("input", "float32", SHAPE, (Axis("batch", 0),)),),
        outputs=("output",),
        gates=(Gate(gate, "gate_1"),),
        cleanup=(Step("fold constants", 226, 200),),
        attention=(AttentionBlock("CBAM", block, 16, 16, 7, ("gate_1",), ("map_1",), ("mul_1", "mul_2"), 20),),
        validation=Verdict(
            "onnxruntime",
            comparisons,
            ((SHAPE,),),
            images=66,
            classes=None if differ is None else Classes(50, differ),
            policy="float32",
        ),
    )
    return structs.replace(record, **changes)


def sample_report(timings: Sequence[Timing] | None = None, **changes: Any) -> Report:
    """The report of an export of a small CBAM network.

    Args:
        timings: of its latencies; `sample_timings` by default.
        changes: as `changed` takes them.
    """
    listed = tuple(sample_timings() if timings is None else timings)
    batches = dict.fromkeys(timing.batch for timing in listed)
    report = Report(
        created="2026-11-25T01:11:00+00:00",
        command=("attn-export", "model.pt", "--onnx"),
        model=ModelRecord(
            name="cbam_resnet8",
            checkpoint="model.pt",
            sha256="c" * 64,
            architecture={"backbone": "resnet8", "attention": "cbam", "num_classes": 10, "in_channels": 3},
            inputs=(InputRecord("input", "float32", SHAPE),),
        ),
        artifacts=(sample_artifact(),),
        latency=Latency(
            threads=2,
            cpus=(0, 1),
            schedule=Schedule(confidence=CONFIDENCE, seconds=20.0),
            runs=tuple(_run(batch, listed) for batch in batches),
            timings=listed,
        ),
        environment=Environment(
            platform="Linux-6.1-x86_64",
            python="3.13.5",
            cpu="A processor",
            cpus=2,
            packages={"attn-export": "0.1.0", "torch": "2.13.0", "onnxruntime": "1.32.0"},
        ),
    )
    return changed(report, changes)


def _run(batch: int, timings: Sequence[Timing]) -> Run:
    rounds = next(timing.rounds_ms for timing in timings if timing.batch == batch)
    conditions = Conditions(load=0.4, others=0.03, steal=0.0)
    return Run(batch, len(rounds), len(rounds[0]), 14.2, 0.013, reached=True, conditions=conditions)


def changed(record: Record, changes: Mapping[str, Any]) -> Record:
    """The record with other fields, also of its parts: ``{"environment": {"cpu": "another"}}``. No type is checked."""
    fields: dict[str, Any] = {}
    for name, value in changes.items():
        part = getattr(record, name)
        if isinstance(value, dict) and isinstance(part, Struct):
            fields[name] = changed(part, value)
        else:
            fields[name] = {**part, **value} if isinstance(value, dict) and isinstance(part, dict) else value
    return structs.replace(record, **fields)


def scaled(report: Report, factor: float, runtimes: Sequence[str]) -> Report:
    """The report of a run in which these runtimes take so many times as long."""
    return changed(
        report, {"latency": {"timings": tuple(_scaled(t, factor, runtimes) for t in report.latency.timings)}}
    )


def _scaled(timing: Timing, factor: float, runtimes: Sequence[str]) -> Timing:
    if timing.runtime not in runtimes:
        return timing
    times = {name: getattr(timing, name) * factor for name in ("median_ms", "p90_ms", "p99_ms", "worst_ms")}
    intervals = {name: _times(getattr(timing, name), factor) for name in ("median_interval_ms", "p99_interval_ms")}
    rounds = tuple(_times(values, factor) for values in timing.rounds_ms)
    per_second = timing.images_per_second / factor
    slower = structs.replace(timing, **times, **intervals, rounds_ms=rounds, images_per_second=per_second)
    if timing.verdict == "baseline" or timing.baseline in runtimes:
        return slower
    low, high = _times(timing.ratio_interval, factor)
    return structs.replace(
        slower, ratio=timing.ratio * factor, ratio_interval=(low, high), verdict=verdict_of(low, high)
    )


def _times(values: Sequence[float], factor: float) -> tuple[float, ...]:
    return tuple(value * factor for value in values)
