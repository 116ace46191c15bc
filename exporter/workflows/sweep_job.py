"""The work of one job of a sweep: an ONNX file that is proven, or an artifact that is timed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import structs

from attn_export.exporter.artifacts import LoadedModel, Precision, Target
from attn_export.exporter.records.document import encode
from attn_export.exporter.records.latency import Timing
from attn_export.exporter.records.sweep import Figures
from attn_export.exporter.records.verdict import Quality, Verdict
from attn_export.exporter.sweep.inputs import CALIBRATION, CODE
from attn_export.exporter.sweep.job import Inputs, Job, Make, Measure, Network
from attn_export.exporter.system.files import write_text
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.system.progress import NullProgress

STEM, REPORT, OWN_REPORT = "model", "model.report.json", "latency.report.json"


def run_job(job: Job, inputs: Inputs, folder: Path) -> Figures:
    """Do a job. Raises AttnExportError: the artifact can't be made or timed, or computes something else."""
    task = job.task
    if isinstance(task, Measure):
        return _engine(task, inputs, folder) if task.runtime.startswith("tensorrt") else _timed(task, inputs, folder)
    if Precision(task.precision).is_quantized:
        return _quantized(task, inputs, folder)
    return _converted(task, inputs, folder) if task.network.kind == "onnx" else _exported(task, inputs, folder)


@contextmanager
def _loaded(network: Network, inputs: Inputs) -> Iterator[LoadedModel]:
    """The network; one of the zoo has the random weights of seed 0."""
    from attn_export.exporter.checkpoint.create import create_checkpoint
    from attn_export.exporter.checkpoint.load import load_with

    code, weights = (inputs[role][0] if role in inputs else None for role in (CODE, "weights"))
    options = replace(network.options, code=code, weights=weights)
    if network.kind == "checkpoint":
        yield load_with(inputs["model"][0], options)
        return
    if ":" in network.zoo:
        yield load_with(network.zoo, options)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{network.zoo}.pt"
        create_checkpoint(path, network.zoo)
        yield load_with(path, options)


def _exported(task: Make, inputs: Inputs, folder: Path) -> Figures:
    from attn_export.exporter.workflows.export import export_loaded
    from attn_export.exporter.workflows.settings import ExportSettings

    taken = task.network.options.inputs
    batch = taken[0].shape[0] if taken else 1
    settings = ExportSettings(
        runtimes=(), batch=batch, precisions=(Precision(task.precision),), target=Target(task.form)
    )
    with _loaded(task.network, inputs) as model:
        result = export_loaded(model, folder, STEM, settings, NullProgress())
    (file,) = result.report.onnx_files
    return _judged(result.verdict, size=file.bytes, nodes=file.nodes)


def _converted(task: Make, inputs: Inputs, folder: Path) -> Figures:
    """An ONNX file in a precision: as it is if that is its own, since nothing says what it should compute."""
    from attn_export.exporter.engine.graph import read_source
    from attn_export.exporter.engine.settings import EngineSettings
    from attn_export.exporter.workflows.convert import in_precision

    source = read_source(inputs["model"][0])
    nodes = len(source.parsed.model.graph)
    _, changed = in_precision(
        source,
        Precision(task.precision),
        folder,
        folder,
        EngineSettings(),
        threads=usable_cpus(),
        progress=NullProgress(),
    )
    if changed is not None:
        return _judged(changed.verdict, size=_size_of(changed.path), nodes=nodes)
    for path in inputs["model"]:
        shutil.copy(path, folder)
    return Figures(bytes=_size_of(inputs["model"][0]), nodes=nodes)


def _quantized(task: Make, inputs: Inputs, folder: Path) -> Figures:
    """A quantized file, judged on some of its calibration images as in an export: noise has other ranges."""
    from attn_export.exporter.images.preprocessing import PictureOptions
    from attn_export.exporter.images.read import read_images
    from attn_export.exporter.precision.int8.placement import Choices
    from attn_export.exporter.precision.int8.settings import QuantizeSettings
    from attn_export.exporter.workflows.quantize import quantize_file
    from attn_export.exporter.workflows.user_images import STAND_INS, known_of
    from attn_export.exporter.workflows.validate import failure, validate_artifacts

    out, (calibration,) = folder / f"{STEM}.{task.precision}.onnx", inputs[CALIBRATION]
    settings = QuantizeSettings(Choices(Target(task.form)), Precision(task.precision))
    pictures = PictureOptions(task.normalization)
    made = quantize_file(inputs["float32"][0], out, calibration, pictures=pictures, settings=settings)
    if task.network.kind == "onnx":
        return _of_quality(made.quality, Figures(agrees=True, bytes=_size_of(out)))
    with _loaded(task.network, inputs) as model:
        images = read_images(calibration, model.inputs, known_of(model, pictures)).spread(STAND_INS)
        results = validate_artifacts(model, out, images=images)
    if error := failure(results):
        raise error
    verdict, quality = results[0].verdict, results[0].quality
    figures = _judged(verdict, size=_size_of(out)) if verdict else Figures(bytes=_size_of(out))
    return _of_quality(quality or made.quality, figures)


def _timed(task: Measure, inputs: Inputs, folder: Path) -> Figures:
    if "onnx" in inputs:
        return _benched(task, None, inputs["onnx"][0], folder)
    with _loaded(task.network, inputs) as model:
        return _benched(task, model, None, folder)


def _benched(task: Measure, model: LoadedModel | None, artifact: Path | None, folder: Path) -> Figures:
    from attn_export.exporter.records.latency import Schedule
    from attn_export.exporter.workflows.bench import bench
    from attn_export.exporter.workflows.record import bench_report
    from attn_export.exporter.workflows.settings import BenchSettings

    settings = BenchSettings(
        runtimes=(task.runtime,),
        batches=(task.batch,),
        schedule=Schedule(interval=task.interval, seconds=task.seconds),
        cost=False,
    )
    taken = [each.with_batch(task.batch) for each in task.network.options.inputs]
    benched = bench(model, (artifact,) if artifact else (), inputs=taken, settings=settings)
    write_text(folder / OWN_REPORT, encode(bench_report(benched)))
    return _latency(benched.latency.timings[0])


def _engine(task: Measure, inputs: Inputs, folder: Path) -> Figures:
    """Build an engine for exactly this batch, and time it if its GPU is here; for a Jetson elsewhere a bundle."""
    from attn_export.exporter.engine.profile import Sizes
    from attn_export.exporter.engine.settings import EngineSettings
    from attn_export.exporter.records.engine import BuildOptions
    from attn_export.exporter.workflows.build import build_all

    settings = EngineSettings(
        gpus=(task.target,),
        backend=task.runtime,
        sizes=Sizes((task.batch,) * 3),
        opt_batch=task.batch,
        options=BuildOptions(tf32=task.precision == Precision.TF32),
        count_ablated=False,
    )
    with TemporaryDirectory(dir=folder) as scratch:
        for path in inputs["onnx"]:
            shutil.copy(path, scratch)
        result = build_all(Path(scratch) / inputs["onnx"][0].name, settings=settings)
        for path in (*result.bundles, *Path(scratch).glob("*.engine*")):
            path.rename(folder / path.name)
    if not result.engines:
        words = f"deployment bundle for {task.target}"
        return Figures(bytes=(folder / result.bundles[0].name).stat().st_size, not_timed=words)
    engine = result.engines[0]
    figures = Figures(bytes=engine.record.bytes, kernels=engine.record.cost.kernels)
    if engine.record.not_run is not None:
        return structs.replace(figures, not_timed=engine.record.not_run)
    timed = _benched(task, None, folder / engine.path.name, folder)
    return structs.replace(timed, bytes=figures.bytes, kernels=figures.kernels)


def _judged(verdict: Verdict, *, size: int | None, nodes: int | None = None) -> Figures:
    worst = verdict.worst_of("output")
    error = worst.error if worst else None
    return Figures(agrees=verdict.agrees, error=error, error_ratio=verdict.worst.ratio, bytes=size, nodes=nodes)


def _of_quality(quality: Quality, figures: Figures) -> Figures:
    """With the error that a quantized file makes against the network, instead of that against its own graph."""
    worst = min((value for value in quality.sqnr_db.values() if value is not None), default=None)
    error = None if worst is None else 10 ** (-worst / 20)
    return structs.replace(figures, sqnr_db=worst, error=error, class_agreement=quality.agreement)


def _latency(timing: Timing) -> Figures:
    low, high = timing.median_interval_ms
    return Figures(
        latency_ms=timing.median_ms,
        latency_low_ms=low,
        latency_high_ms=high,
        p99_ms=timing.p99_ms,
        images_per_second=timing.images_per_second,
    )


def _size_of(path: Path) -> int:
    from attn_export.exporter.graph.write import external_data_of

    return sum(each.stat().st_size for each in (path, external_data_of(path)) if each.exists())
