"""The engines and deployment bundles of an export."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import Dim, Input, OnnxFile, Precision, Shapes
from attn_export.exporter.engine.profile import make_profile
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError
from attn_export.exporter.graph.read import parsed
from attn_export.exporter.records.engine import EngineFile, covers, shapes_of
from attn_export.exporter.records.results import Deployed, Proven
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.runtimes import RUNS_ENGINES
from attn_export.exporter.system import gpus
from attn_export.exporter.system.progress import Progress
from attn_export.exporter.validation.prove import prove_engine
from attn_export.exporter.workflows.deploy import Deployment, check_settings, deploy
from attn_export.exporter.workflows.export_job import ExportJob
from attn_export.exporter.workflows.quantized_files import compare_with_network
from attn_export.exporter.workflows.settings import ExportSettings, judged_as

if TYPE_CHECKING:
    from attn_export.exporter.bundle.golden import GoldenVectors


def check_engines(inputs: Sequence[Input], settings: ExportSettings, progress: Progress) -> tuple[Shapes, ...]:
    """Check before the work begins that the engines can be built, and note the backend.

    Returns:
        The shapes of all inputs on which engines will be validated on this machine's GPU; empty without one.

    Raises:
        UsageError, RuntimeUnavailableError: they can't be built, or not be timed as asked.
    """
    named = [name for name in settings.runtimes if name in RUNS_ENGINES]
    if settings.engine is None:
        if Precision.TF32 in settings.precisions:
            raise UsageError("tf32 is a precision of engines", hint="Add --engine, or take fp32.")
        if named:
            raise UsageError(f"{named[0]} runs engines, and none is made", hint="Add --engine, or leave it out.")
        return ()
    if named and not gpus.found():
        raise RuntimeUnavailableError(
            f"{named[0]} can't run here: there is no GPU, or no driver for it",
            hint="Leave it out of --runtimes: the engine is built all the same.",
        )
    targets = check_settings(settings.engine, settings.precisions, progress)
    profile = make_profile({taken.name: _dims(taken) for taken in inputs}, settings.engine.sizes, settings.batch)
    names = [taken.name for taken in inputs]
    return shapes_of(profile, names) if gpus.found() and targets.wants_engine else ()


def _dims(taken: Input) -> tuple[Dim, ...]:
    names = {axis.index: axis.name for axis in taken.axes}
    return tuple(names.get(i, size) for i, size in enumerate(taken.shape))


def deploy_all(job: ExportJob, proven: Sequence[Proven]) -> list[Deployed]:
    """Build the engine and bundles of every file. Raises DisagreementError: an engine computes something else."""
    settings = job.settings
    if settings.engine is None:
        return []
    from attn_export.exporter.engine.graph import source_of

    with job.progress.stage("Reading the graphs"):
        sources = {artifact.file.precision: source_of(parsed(artifact.file)).facts for artifact in proven}
    of_precision = {artifact.file.precision: artifact for artifact in proven}
    deployed = []
    for precision in settings.precisions:
        file = Precision.FP32 if precision is Precision.TF32 else precision
        name = f"{job.stem}{precision.suffix}"
        build = Deployment(sources[file], job.folder, name, settings.engine, precision)
        deployed.append(_deploy(job, build, of_precision[file].file, judged_as(precision, settings.around)))
    return deployed


def _deploy(job: ExportJob, build: Deployment, file: OnnxFile, judged: Precision) -> Deployed:
    def golden() -> "GoldenVectors":
        from attn_export.exporter.validation.golden import golden_of_file, golden_of_reference

        if file.precision.is_quantized:  # PyTorch doesn't round as the file does
            return golden_of_file(build.facts, build.profile, job.runtimes.threads)
        return golden_of_reference(job.reference, file.signature, build.profile, judged)

    return deploy(build, lambda engine: _verdict(job, engine, file, judged), golden, job.progress)


def _verdict(job: ExportJob, engine: EngineFile, file: OnnxFile, judged: Precision) -> Verdict:
    """The verdict on an engine that runs here."""
    if not file.precision.is_quantized:
        return prove_engine(engine, replace(file, precision=judged), job.reference, job.runtimes, job.progress)
    names = file.signature.input_names
    fitting = job.reference.limited_to(lambda shapes: covers(engine.record.profile, names, shapes))
    found = compare_with_network(engine.path, file, fitting, job.runtimes.threads, job.progress).verdict
    assert found is not None
    return found
