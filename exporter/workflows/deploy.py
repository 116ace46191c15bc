"""TensorRT engines for GPUs that this machine can build for, deployment bundles for the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.engine.backend import AUTO
from attn_export.exporter.engine.job import build_graph, choose_backend
from attn_export.exporter.engine.profile import make_profile
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.engine.sidecar import add_validation
from attn_export.exporter.engine.targets import Targets, parse_targets
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.records.engine import EngineFile, Profile
from attn_export.exporter.records.results import Deployed
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.system import gpus
from attn_export.exporter.system.progress import Progress

if TYPE_CHECKING:
    from attn_export.exporter.bundle.golden import GoldenVectors
    from attn_export.exporter.engine.graph import GraphFacts

FIRST_WITH_FLOAT8 = 89  # compute capability 8.9, Ada


@dataclass(frozen=True)
class Deployment:
    """An ONNX file with the GPUs that it is for: ``<stem>.engine``, ``<stem>.sm87.bundle.zip``."""

    facts: "GraphFacts"
    folder: Path
    stem: str
    settings: EngineSettings
    precision: Precision | None

    @property
    def build_settings(self) -> EngineSettings:
        """The settings, with TF32 where it is the precision."""
        tf32 = self.precision is Precision.TF32
        return replace(self.settings, options=structs.replace(self.settings.options, tf32=tf32))

    @property
    def targets(self) -> Targets:
        """The architectures that get an engine, and those that get a bundle."""
        return targets_of(self.settings)

    @property
    def profile(self) -> Profile:
        """The min/opt/max shapes of the inputs. Raises UsageError: the settings don't fit the inputs."""
        return make_profile(self.facts.inputs, self.settings.sizes, self.settings.opt_batch)


def targets_of(settings: EngineSettings) -> Targets:
    """The architectures that get an engine, and those that get a bundle. Raises UsageError: a GPU is unknown."""
    return parse_targets(settings.gpus, gpus.found())


def check_settings(settings: EngineSettings, precisions: Sequence[Precision | None], progress: Progress) -> Targets:
    """Check before the work begins that the engines can be built, and note the backend.

    Raises:
        UsageError, RuntimeUnavailableError: as `choose_backend` says, or a GPU has no float8.
    """
    targets = targets_of(settings)
    if Precision.FP8 in precisions:
        _refuse_without_float8(targets)
    if targets.wants_engine:
        backend, why, _ = choose_backend(_without_bundles(settings, targets), gpus.found())
        if settings.backend == AUTO:
            progress.note(f"{backend} builds: {why}")
    return targets


def _refuse_without_float8(targets: Targets) -> None:
    own = [gpu.architecture for gpu in gpus.found()[:1]] if targets.current else []
    named = (*targets.architectures, *targets.bundles, *own)
    lacking = [name for name in named if int(name.removeprefix("sm")) < FIRST_WITH_FLOAT8]
    if lacking or not named:
        what = ", ".join(lacking) if lacking else "one of the GPUs that an engine without --gpu is for"
        raise RuntimeUnavailableError(f"{what} has no float8", hint="Name GPUs that have it, such as --gpu sm89,sm120.")


def _without_bundles(settings: EngineSettings, targets: Targets) -> EngineSettings:
    """The settings without the architectures that get a bundle."""
    names = (*targets.architectures, *(["current"] if targets.current else []))
    return replace(settings, gpus=names)


def deploy(
    job: Deployment,
    judge: Callable[[EngineFile], Verdict],
    golden: Callable[[], "GoldenVectors"],
    progress: Progress,
) -> Deployed:
    """Build the engine, validate it if its GPU is here, and write a bundle for each architecture that gets one.

    Raises:
        DisagreementError: the engine computes something else.
        AttnExportError: as `engine.job.build_graph` and `bundle.write.write_bundle` say.
    """
    engines: tuple[EngineFile, ...] = ()
    if job.targets.wants_engine:
        settings = _without_bundles(job.build_settings, job.targets)
        out = job.folder / f"{job.stem}.engine"
        engine = build_graph(job.facts, out, settings, precision=job.precision, progress=progress)
        engines = (add_validation(engine, judge(engine)) if engine.record.not_run is None else engine,)
    return Deployed(engines, pack_bundles(job, golden(), progress) if job.targets.bundles else ())


def pack_bundles(job: Deployment, golden: "GoldenVectors", progress: Progress) -> tuple[Path, ...]:
    """Write a bundle for each architecture that gets one."""
    return tuple(_bundle(job, architecture, golden, progress) for architecture in job.targets.bundles)


def _bundle(job: Deployment, architecture: str, golden: "GoldenVectors", progress: Progress) -> Path:
    from attn_export.exporter.bundle.readme import MAX_OPSET
    from attn_export.exporter.bundle.write import write_bundle

    if job.precision is Precision.BF16:
        progress.note(
            f"{architecture}: bfloat16 takes opset 22, and TensorRT 10.3 (JetPack 6) is only known to parse opsets up "
            f"to {MAX_OPSET}; it takes fp16"
        )
    with progress.stage(f"Packing the deployment bundle for {architecture}"):
        return write_bundle(
            job.folder / f"{job.stem}.{architecture}.bundle.zip",
            job.facts.path,
            facts=job.facts,
            profile=job.profile,
            architecture=architecture,
            precision=job.precision,
            options=job.build_settings.options,
            golden=golden,
        )
