"""Opens the runtimes that an export or a bench times."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from attn_export.exporter.artifacts import CPU, LoadedModel, OnnxFile, Signature
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError
from attn_export.exporter.latency.interleaved import Candidate, TimingSettings, time_interleaved
from attn_export.exporter.records.engine import covers
from attn_export.exporter.records.latency import Latency
from attn_export.exporter.records.results import Deployed, Proven
from attn_export.exporter.runtimes import IN_EVALUATOR, RUNS_FILES, RUNTIMES
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.workflows.bench_inputs import BenchInput
from attn_export.exporter.workflows.export_job import ExportJob

DEFAULT_FOR_MODULE = ("eager",)
DEFAULT_FOR_FILES = ("onnxruntime",)


def time_all(job: ExportJob, proven: Sequence[Proven], deployed: Sequence[Deployed]) -> Latency:
    """Time the network and what was exported from it.

    Engines are timed if this machine has a GPU for them and their profile covers the timed batch.

    Raises:
        RuntimeUnavailableError: a runtime isn't available.
    """
    model, settings, own = job.model, job.settings, job.runtimes
    inputs = [taken.with_batch(settings.batch) for taken in model.inputs]
    shapes = tuple(taken.shape for taken in inputs)
    # A runtime that compiles for a shape compiles for the timed one.
    files = [replace(p.file, signature=p.file.signature.with_shapes(shapes)) for p in proven]
    candidates: list[Candidate] = []
    timed = [file for file in files if file.precision not in IN_EVALUATOR]
    if settings.runtimes and len(timed) < len(files):
        names = ", ".join(file.name for file in files if file not in timed)
        job.progress.note(f"{names}: not timed, because ONNX Runtime has no such convolutions on a CPU")
    for name in (name for name in settings.runtimes if name in RUNTIMES):
        runs = timed if name in RUNS_FILES else files[:1]
        candidates += [(name, RUNTIMES[name](model, file, own)) for file in runs]
    if settings.runtimes:
        candidates += _engines(files[0].signature, deployed, own)
    return time_interleaved(candidates, inputs, TimingSettings(settings.schedule, own.threads), job.progress)


def _engines(signature: Signature, deployed: Sequence[Deployed], settings: Settings) -> list[Candidate]:
    from attn_export.exporter.runtimes.tensorrt import TensorRT

    return [
        (engine.path.name, TensorRT(engine.path, signature, settings))
        for one in deployed
        for engine in one.engines
        if engine.record.not_run is None and covers(engine.record.profile, signature.input_names, signature.shapes)
    ]


def candidates_of(
    model: LoadedModel | None,
    inputs: Sequence[BenchInput],
    batch: int,
    names: Sequence[str],
    settings: Settings,
    *,
    trust: bool,
) -> list[Candidate]:
    """Everything that a bench times at one N, the module's runtimes first.

    Raises:
        UsageError: none of the runtimes runs any of the artifacts.
    """
    candidates = [] if model is None else _of_the_module(model, names or DEFAULT_FOR_MODULE, batch, settings)
    for entry in inputs:
        candidates += _of_artifact(entry, batch, names or DEFAULT_FOR_FILES, settings, trust=trust)
    if not candidates:
        raise UsageError(
            f"nothing that was named runs in {', '.join(names)}",
            hint="A checkpoint runs in eager and compile, an ONNX file in onnxruntime.",
        )
    return candidates


def _of_the_module(model: LoadedModel, names: Sequence[str], batch: int, settings: Settings) -> list[Candidate]:
    chosen = [name for name in names if name in RUNTIMES and name not in RUNS_FILES]
    if not chosen:
        return []
    from attn_export.exporter.validation.compute_reference import returned

    outputs = tuple(output.name for output in returned(model, batch))
    signature = Signature(tuple(taken.with_batch(batch) for taken in model.inputs), outputs)
    file = OnnxFile(Path(), signature, model.sha256, 0, 0, ())
    return [(name, RUNTIMES[name](model, file, settings)) for name in chosen]


def _of_artifact(
    entry: BenchInput, batch: int, names: Sequence[str], settings: Settings, *, trust: bool
) -> list[Candidate]:
    artifact, signature = entry.artifact, entry.signature.with_batch(batch)
    if artifact.parsed is None:
        from attn_export.exporter.runtimes.tensorrt import TensorRT

        engine = TensorRT(artifact.path, signature, settings, trust=trust)
        engine.artifact = entry.name
        return [(entry.name, engine)]
    candidates: list[Candidate] = []
    for name in (name for name in names if name in RUNS_FILES):
        if (name, settings.device) == ("onnxruntime", CPU) and artifact.precision in IN_EVALUATOR:
            raise RuntimeUnavailableError(
                f"{artifact.path} is {artifact.precision}, which ONNX Runtime doesn't compute on a CPU",
                hint="Leave it out, or time an engine of it.",
            )
        runtime = RUNTIMES[name](None, artifact.as_file(signature), settings)  # type: ignore[arg-type]
        runtime.artifact = entry.name
        if artifact.quantized:
            runtime.precision = artifact.quantized_type
        candidates.append((f"{entry.name} in {name}", runtime))
    return candidates
