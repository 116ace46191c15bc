"""What goes to the GPU: engines for those that can be built for here, deployment bundles for the others."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.engine.backend import AUTO
from attn_export.exporter.engine.job import build_graph, choose_backend
from attn_export.exporter.engine.profile import make_profile
from attn_export.exporter.engine.settings import EngineSettings, Judge
from attn_export.exporter.engine.sidecar import sidecar_path
from attn_export.exporter.engine.targets import Targets, parse_targets
from attn_export.exporter.records.engine import EngineFile, Profile
from attn_export.exporter.records.results import Deployed
from attn_export.exporter.system import gpus
from attn_export.exporter.system.files import publish
from attn_export.exporter.system.progress import Progress

if TYPE_CHECKING:
    from attn_export.exporter.bundle.golden import GoldenVectors
    from attn_export.exporter.engine.graph import GraphFacts

ENDING = ".onnx"


def names_of(deployed: "Sequence[Deployed]") -> list[str]:
    """Of all files that are going to appear."""
    engines = [engine.path for made in deployed for engine in made.engines]
    bundles = [bundle for made in deployed for bundle in made.bundles]
    return [path.name for path in (*engines, *map(sidecar_path, engines), *bundles)]


def check_settings(settings: EngineSettings, progress: Progress) -> Targets:
    """Find out before anything takes time whether what was asked for can be built at all, and say what will build it.

    Raises:
        UsageError, RuntimeUnavailableError: as `building.choose_backend` says.
    """
    wanted = parse_targets(settings.gpus, gpus.found())
    if wanted.wants_engine:
        backend, why, _ = choose_backend(_here(settings, wanted), gpus.found())
        if settings.backend == AUTO:
            progress.note(f"{backend} builds: {why}")
    return wanted


def _here(settings: EngineSettings, wanted: Targets) -> EngineSettings:
    """The settings without the architectures that get a bundle."""
    names = (*wanted.architectures, *(["current"] if wanted.current else []))
    return replace(settings, gpus=names)


def deploy(
    facts: "GraphFacts",
    folder: Path,
    stem: str,
    settings: EngineSettings,
    *,
    precision: Precision | None,
    golden: "Callable[[Profile], GoldenVectors]",
    judge: Judge,
    progress: Progress,
) -> Deployed:
    """Make an engine and bundles of one ONNX file.

    Args:
        facts: about the file, in the precision of the engine.
        folder: where the results go.
        stem: of their names: ``<stem>.engine``, ``<stem>.sm87.bundle.zip``.
        settings: of the build.
        precision: for the records.
        golden: makes the golden inputs and outputs of a bundle for a profile.
        judge: runs an engine before it gets its name, where there is a GPU for it.
        progress: receives stages and notes.

    Raises:
        AttnExportError: as `engine.job.build_file` and `bundle.write_bundle` say.
    """
    wanted = parse_targets(settings.gpus, gpus.found())
    engines = []
    if wanted.wants_engine:
        out = folder / f"{stem}.engine"
        here = _here(settings, wanted)
        engines.append(build_graph(facts, out, here, precision=precision, judge=judge, progress=progress))
    bundles = [_bundle(facts, folder, stem, a, settings, precision, golden, progress) for a in wanted.bundles]
    return Deployed(tuple(engines), tuple(bundles))


def _bundle(
    facts: "GraphFacts",
    folder: Path,
    stem: str,
    architecture: str,
    settings: EngineSettings,
    precision: Precision | None,
    golden: "Callable[[Profile], GoldenVectors]",
    progress: Progress,
) -> Path:
    from attn_export.exporter.bundle.write import write_bundle

    with progress.stage(f"Packing the deployment bundle for {architecture}"):
        profile = make_profile(facts.inputs, settings.sizes, settings.opt_batch)
        return write_bundle(
            folder / f"{stem}.{architecture}.bundle.zip",
            facts.path,
            facts=facts,
            profile=profile,
            architecture=architecture,
            precision=precision,
            options=settings.options,
            golden=golden(profile),
        )


def publish_engine(engine: EngineFile, path: Path) -> EngineFile:
    """Let an engine appear under its name, and its record with it."""
    publish(engine.path, path)
    publish(sidecar_path(engine.path), sidecar_path(path))
    return EngineFile(path, engine.record)


def publish_bundle(file: Path, folder: Path) -> Path:
    """Let a bundle appear."""
    publish(file, folder / file.name)
    return folder / file.name
