"""The main job: a network to an ONNX file that is proven and timed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from attn_export.exporter.artifacts import LoadedModel, OnnxFile, Precision
from attn_export.exporter.budgets.check import check_budgets
from attn_export.exporter.engine.profile import make_profile
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.outline import outline
from attn_export.exporter.graph.read import parse, parsed
from attn_export.exporter.latency.interleaved import Candidate, TimingSettings, time_interleaved
from attn_export.exporter.network.images import batches
from attn_export.exporter.records.document import encode
from attn_export.exporter.records.engine import EngineFile, Profile
from attn_export.exporter.records.latency import Latency
from attn_export.exporter.records.results import Deployed, ExportResult, Made, Proven
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.runtimes import RUNS_ENGINES, RUNS_FILES, RUNTIMES, check_devices, check_names
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.system import gpus
from attn_export.exporter.system.files import publish, refuse_folders, scratch_folder, write_text
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.system.memory import forget_weights, trim
from attn_export.exporter.system.packages import versions
from attn_export.exporter.system.progress import NullProgress, Progress, counted
from attn_export.exporter.validation.prove import prove, prove_engine
from attn_export.exporter.workflows.deploy import check_settings, deploy, names_of, publish_bundle, publish_engine
from attn_export.exporter.workflows.record import export_report
from attn_export.exporter.workflows.settings import ExportSettings

if TYPE_CHECKING:
    from torch import nn

    from attn_export.exporter.bundle.golden import GoldenVectors
    from attn_export.exporter.records.results import ReportAssets
    from attn_export.exporter.validation.reference import Reference

AXES = ("batch", "channels", "height", "width")


def export(
    module: "nn.Module",
    input_shape: Sequence[int],
    out: Path | str = ".",
    *,
    name: str = "model",
    settings: ExportSettings | None = None,
    progress: Progress | None = None,
) -> ExportResult:
    """Export a live module: ``export(module, input_shape=(1, 3, 224, 224), out="build")``.

    Args:
        module: float32, on the CPU; its modes and weights are afterwards as they were.
        input_shape: (N, C, H, W) of its one input; N is the batch that is timed.
        out: folder for ``<name>.onnx``, ``<name>.report.json`` and what else was asked for, made if it isn't there.
        name: stem of the files.
        settings: see `ExportSettings`; its batch is taken from ``input_shape``.
        progress: receives stages and notes.

    Raises:
        AttnExportError: see `attn_export.exporter.errors`; nothing is left behind then.
    """
    from attn_export.exporter.checkpoint.load import from_module

    shape = tuple(int(n) for n in input_shape)
    if len(shape) < 2 or min(shape) < 1:
        raise UsageError(f"input_shape is {shape}; expected is (N, C, H, W)")
    settings, progress = replace(settings or ExportSettings(), batch=shape[0]), progress or NullProgress()
    model = from_module(module, shape[1:])
    for note in model.notes:
        progress.note(note)
    return export_loaded(model, Path(out), name, settings, progress)


def export_loaded(
    model: LoadedModel, out: Path, stem: str, settings: ExportSettings, progress: Progress
) -> ExportResult:
    """Compute the reference, capture, clean, prove, build, time and write; nothing unproven ever has its final name.

    Raises:
        AttnExportError: see `attn_export.exporter.errors`.
    """
    runtimes = check_names(settings.runtimes)
    runtime_settings = Settings(settings.threads or usable_cpus(), settings.device)
    check_devices(runtimes, runtime_settings)
    judged = check_engines(model, settings, progress)
    with scratch_folder(out) as scratch:
        reference = reference_outputs(model, settings, judged, progress)
        made = make_onnx(model, scratch / f"{stem}.onnx", settings, progress)
        proven = prove_all(made.file, model, reference, settings.precisions, runtime_settings, progress)
        for artifact in proven:
            onnx_file.add_metadata(artifact.file.path, metadata(model, artifact.verdict))
        deployed = deploy_all(proven, stem, reference, settings, runtime_settings, progress)
        latency = time_all(model, proven, deployed, runtime_settings, settings, progress)
        assets = look_closer(model, proven, deployed, made, runtime_settings, settings, progress)
        report = export_report(model, proven, deployed, latency, assets, settings.command)
        report = structs.replace(report, budgets=check_budgets(report, settings.budgets))
        file = scratch / f"{stem}.report.json"
        write_text(file, encode(report))
        refuse_folders(out / name for name in [*(a.file.path.name for a in proven), *names_of(deployed), file.name])
        for artifact in proven:
            onnx_file.publish_with_weights(artifact.file.path, out / artifact.file.path.name)
        engines = tuple(publish_engine(e, out / e.path.name) for made in deployed for e in made.engines)
        bundles = tuple(publish_bundle(bundle, out) for made in deployed for bundle in made.bundles)
        publish(file, out / file.name)
    onnx = tuple(out / artifact.file.path.name for artifact in proven)
    verdicts = tuple(artifact.verdict for artifact in proven)
    return ExportResult(onnx, out / file.name, verdicts, latency, report, engines, bundles, made.reverted)


def check_engines(model: LoadedModel, settings: ExportSettings, progress: Progress) -> tuple[tuple[int, ...], ...]:
    """Find out before the work begins whether the engines that were asked for can be built, and say what will.

    Returns:
        The shapes (N, C, H, W) that engines will be judged at on this machine's GPU; none without one.

    Raises:
        UsageError, RuntimeUnavailableError: they can't.
    """
    named = [name for name in settings.runtimes if name in RUNS_ENGINES]
    if settings.engine is None:
        if named:
            raise UsageError(f"{named[0]} runs engines, and none is made", hint="Add --engine, or leave it out.")
        return ()
    if named and not gpus.found():  # a run was asked for; otherwise the table says that there was none
        raise RuntimeUnavailableError(
            f"{named[0]} can't run here: there is no GPU, or no driver for it",
            runtime=named[0],
            hint="Leave it out of --runtimes: the engine is built all the same.",
        )
    wanted = check_settings(settings.engine, progress)
    shape = (settings.batch, *model.input_shape)
    dims = tuple(name if name in settings.dynamic else size for name, size in zip(AXES, shape, strict=False))
    profile = make_profile({"input": (*dims, *shape[len(dims) :])}, settings.engine.sizes, settings.batch)
    return profile["input"].shapes if gpus.found() and wanted.wants_engine else ()


def reference_outputs(
    model: LoadedModel, settings: ExportSettings, judged: Sequence[tuple[int, ...]], progress: Progress
) -> "Reference":
    """What the network computes on the images that every artifact is judged on.

    It comes first because it needs the most memory: what it gives back serves all that follows.

    Args:
        model: the network.
        settings: of the export.
        judged: shapes (N, C, H, W) that are judged besides the usual ones.
        progress: receives stages and notes.

    Raises:
        CaptureError, InputError: see `oracle.reference`.
    """
    with progress.stage("Computing the reference in float64") as advance:
        from attn_export.exporter.validation.compute_reference import compute_reference

        images = batches(model.input_shape, settings.dynamic, settings.batch, judged, settings.images)
        precisions = tuple(dict.fromkeys((Precision.FP32, *settings.precisions)))
        reference = compute_reference(model, images, counted(advance, len(images)), precisions)
        trim()
        return reference


def make_onnx(model: LoadedModel, path: Path, settings: ExportSettings, progress: Progress) -> Made:
    """Capture and clean; the graph is gone from memory when this returns.

    Raises:
        CaptureError, CleanupError, OutputError: as the rooms say.
    """
    with progress.stage("Capturing with PyTorch's exporter"):
        from attn_export.exporter.network.capture import capture

        graph = capture(model, dynamic=settings.dynamic, batch=settings.batch, opset=settings.opset)
    with progress.stage("Cleaning the graph"):
        from attn_export.exporter.cleanup.pipeline import clean_graph

        before = outline(graph.model) if settings.show else None
        graph, cleaned = clean_graph(graph, settings.target)
        file = onnx_file.write(graph, path)
    forget_weights(graph.model)
    trim()
    return Made(
        replace(file, parsed=parse(path)), cleaned.reverted, before.marked(cleaned.blocks_before) if before else None
    )


def deploy_all(
    proven: Sequence[Proven],
    stem: str,
    reference: "Reference",
    settings: ExportSettings,
    runtime_settings: Settings,
    progress: Progress,
) -> list[Deployed]:
    """Engines and bundles of every file; engines are judged too where there is a GPU for them.

    Raises:
        AttnExportError: as `deploying.deploy` says; an engine that computes something else is a DisagreementError.
    """
    if settings.engine is None:
        return []
    from attn_export.exporter.engine.graph import source_of

    with progress.stage("Reading the graphs"):
        facts = [source_of(parsed(artifact.file)).facts for artifact in proven]
    return [
        deploy(
            graph,
            artifact.file.path.parent,
            f"{stem}{artifact.file.precision.suffix}",
            settings.engine,
            precision=artifact.file.precision,
            golden=golden_maker(artifact.file, reference),
            judge=partial(
                prove_engine, file=artifact.file, reference=reference, settings=runtime_settings, progress=progress
            ),
            progress=progress,
        )
        for artifact, graph in zip(proven, facts, strict=True)
    ]


def look_closer(
    model: LoadedModel,
    proven: Sequence[Proven],
    deployed: Sequence[Deployed],
    made: Made,
    runtime_settings: Settings,
    settings: ExportSettings,
    progress: Progress,
) -> "ReportAssets":
    """What a report shows, if one was asked for."""
    from attn_export.exporter.records.results import ReportAssets
    from attn_export.exporter.workflows.assets import show

    if not settings.show:
        return ReportAssets()
    from attn_export.exporter.latency.attention_cost.costs import attention_costs
    from attn_export.exporter.records.gates import ENGINE_UNAVAILABLE

    files = [artifact.file for artifact in proven]
    unavailable = {engine.path.name: ENGINE_UNAVAILABLE for one in deployed for engine in one.engines}
    shown = show(
        model, files, runtime_settings, progress, before=made.before, images=settings.images, unavailable=unavailable
    )
    if not settings.runtimes:
        return shown
    costs = attention_costs(files, settings.batch, runtime_settings, settings.schedule, progress)
    return replace(shown, costs=costs)


def golden_maker(file: OnnxFile, reference: "Reference") -> "Callable[[Profile], GoldenVectors]":
    """What a bundle carries to be judged by: the reference's images that its profile covers, and their results."""

    def make(profile: Profile) -> "GoldenVectors":
        from attn_export.exporter.validation.golden import golden_of_reference

        signature = file.signature
        return golden_of_reference(reference, signature.output_names, signature.input_name, profile, file.precision)

    return make


def metadata(model: LoadedModel, verdict: Verdict) -> dict[str, str]:
    """What the ONNX file says about itself, in ``metadata_props``; JSON where it is more than a word."""
    worst = verdict.worst
    properties: dict[str, object] = {
        "architecture": model.architecture.to_dict() if model.architecture else model.name,
        "source_sha256": model.sha256,
        "normalization": {"mean": model.normalization.mean, "std": model.normalization.std}
        if model.normalization
        else None,
        "class_names": model.class_names,
        "versions": versions(),
        "validation": {
            "agrees": verdict.agrees,
            "runtime": verdict.runtime,
            "worst_tensor": worst.tensor,
            "error": worst.error,
            "baseline": worst.baseline,
            "ratio": worst.ratio,
        },
    }
    return {
        f"attn_export.{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in properties.items()
        if value is not None
    }


def prove_all(
    plain: OnnxFile,
    model: LoadedModel,
    reference: "Reference",
    precisions: Sequence[Precision],
    settings: Settings,
    progress: Progress,
) -> list[Proven]:
    """The files of all precisions, made of the float32 file, each proven.

    The float32 file is proven in any case: its baseline is so fine that it finds what rounding to float16 would hide.

    Raises:
        DisagreementError: one of them computes something else; the error names where that is first seen.
    """
    verdict = prove(plain, model, reference, settings, progress)
    proven = []
    for precision in precisions:
        if precision is plain.precision:
            proven.append(Proven(plain, verdict))
            continue
        with progress.stage(f"Changing the graph to {precision}"):
            from attn_export.exporter.precision.typed_file import typed_file

            path = plain.path.with_name(f"{plain.path.stem}{precision.suffix}.onnx")
            file = typed_file(plain, precision, reference.batches, path, settings.threads)
        proven.append(Proven(file, prove(file, model, reference, settings, progress)))
    return proven


def time_all(
    model: LoadedModel,
    proven: Sequence[Proven],
    deployed: Sequence[Deployed],
    runtime_settings: Settings,
    settings: "ExportSettings",
    progress: Progress,
) -> Latency:
    """Open every runtime for every artifact that it runs, and time them against each other.

    Engines are timed where there is a GPU for them and their profile takes the batch that is timed.

    Raises:
        RuntimeUnavailableError: a runtime can't be had.
    """
    names = [name for name in settings.runtimes if name in RUNTIMES]
    shape = (settings.batch, *model.input_shape)
    # A runtime that compiles for a shape compiles for the one that is timed.
    timed = [replace(p.file, signature=replace(p.file.signature, input_shape=shape)) for p in proven]
    wanted: list[Candidate] = []
    for name in names:
        files = timed if name in RUNS_FILES else timed[:1]
        wanted += [(name, RUNTIMES[name](model, file, runtime_settings)) for file in files]
    for file, made in zip(timed, deployed, strict=False):
        wanted += [
            (engine.path.name, _engine(engine, file, runtime_settings))
            for engine in made.engines
            if settings.runtimes
            and engine.record.not_run is None
            and engine.record.profile[file.signature.input_name].covers(shape)
        ]
    return time_interleaved(wanted, shape, TimingSettings(settings.schedule, runtime_settings.threads), progress)


def _engine(engine: EngineFile, file: OnnxFile, settings: Settings) -> Runtime:
    from attn_export.exporter.runtimes.tensorrt import TensorRT

    return TensorRT(engine.path, file.signature, settings)
