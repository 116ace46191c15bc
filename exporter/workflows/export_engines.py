"""The engines and deployment bundles of an export."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import LoadedModel
from attn_export.exporter.engine.profile import make_profile
from attn_export.exporter.engine.sidecar import add_validation
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError
from attn_export.exporter.graph.read import parsed
from attn_export.exporter.records.results import Deployed, Proven
from attn_export.exporter.runtimes import RUNS_ENGINES, Settings
from attn_export.exporter.system import gpus
from attn_export.exporter.system.progress import Progress
from attn_export.exporter.validation.prove import prove_engine
from attn_export.exporter.workflows.deploy import Deployment, build_engine, check_settings, pack_bundles
from attn_export.exporter.workflows.settings import ExportSettings

if TYPE_CHECKING:
    from attn_export.exporter.validation.reference import Reference

AXES = ("batch", "channels", "height", "width")


def check_engines(model: LoadedModel, settings: ExportSettings, progress: Progress) -> tuple[tuple[int, ...], ...]:
    """Check before the work begins that the engines can be built, and note the backend.

    Returns:
        The shapes (N, C, H, W) on which engines will be validated on this machine's GPU; empty without one.

    Raises:
        UsageError, RuntimeUnavailableError: they can't be built, or not be timed as asked.
    """
    named = [name for name in settings.runtimes if name in RUNS_ENGINES]
    if settings.engine is None:
        if named:
            raise UsageError(f"{named[0]} runs engines, and none is made", hint="Add --engine, or leave it out.")
        return ()
    if named and not gpus.found():
        raise RuntimeUnavailableError(
            f"{named[0]} can't run here: there is no GPU, or no driver for it",
            runtime=named[0],
            hint="Leave it out of --runtimes: the engine is built all the same.",
        )
    targets = check_settings(settings.engine, progress)
    shape = (settings.batch, *model.input_shape)
    dims = tuple(name if name in settings.dynamic else size for name, size in zip(AXES, shape, strict=False))
    profile = make_profile({"input": (*dims, *shape[len(dims) :])}, settings.engine.sizes, settings.batch)
    return profile["input"].shapes if gpus.found() and targets.wants_engine else ()


def deploy_all(
    proven: Sequence[Proven],
    stem: str,
    reference: "Reference",
    settings: ExportSettings,
    runtime_settings: Settings,
    progress: Progress,
) -> list[Deployed]:
    """Build the engine and bundles of every file, and validate engines on this machine's GPU.

    Raises:
        DisagreementError: an engine computes something else.
        AttnExportError: as `build_engine` and `pack_bundles` say.
    """
    if settings.engine is None:
        return []
    from attn_export.exporter.engine.graph import source_of

    with progress.stage("Reading the graphs"):
        facts = [source_of(parsed(artifact.file)).facts for artifact in proven]
    deployed = []
    for artifact, graph in zip(proven, facts, strict=True):
        precision = artifact.file.precision
        job = Deployment(graph, artifact.file.path.parent, f"{stem}{precision.suffix}", settings.engine, precision)
        deployed.append(_deploy(job, artifact, reference, runtime_settings, progress))
    return deployed


def _deploy(
    job: Deployment, artifact: Proven, reference: "Reference", settings: Settings, progress: Progress
) -> Deployed:
    engine = build_engine(job, progress)
    if engine is not None and engine.record.not_run is None:
        engine = add_validation(engine, prove_engine(engine, artifact.file, reference, settings, progress))
    engines = () if engine is None else (engine,)
    if not job.targets.bundles:
        return Deployed(engines, ())
    from attn_export.exporter.validation.golden import golden_of_reference

    signature, precision = artifact.file.signature, artifact.file.precision
    golden = golden_of_reference(reference, signature.output_names, signature.input_name, job.profile, precision)
    return Deployed(engines, pack_bundles(job, golden, progress))
