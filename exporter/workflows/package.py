"""Puts artifacts where they run: model repositories and device folders, signed if there is a key."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attn_export.exporter.artifacts import ONNX_ENDING, LoadedModel, Precision
from attn_export.exporter.deployment.signature import read_key
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.records.report import Report
from attn_export.exporter.records.summaries import PackageSummary
from attn_export.exporter.runtimes import IN_EVALUATOR
from attn_export.exporter.system.files import paths_of
from attn_export.exporter.system.progress import NullProgress, Progress
from attn_export.exporter.validation.artifact import read_artifact
from attn_export.exporter.workflows.package_device import check_device_folder, write_device_folder
from attn_export.exporter.workflows.package_triton import TritonSettings, check_repository, max_batch, write_repository


@dataclass(frozen=True)
class PackageSettings:
    """What is packaged, and where.

    Attributes:
        repository: for Triton; None for none.
        licenses: SPDX expressions of the network, for the device folder.
        labels: names of the classes; None for those in the files.
        key: private, in PEM; None signs nothing.
    """

    repository: Path | str | None = None
    triton: TritonSettings = field(default_factory=TritonSettings)
    device: Path | str | None = None
    licenses: tuple[str, ...] = ()
    bom: bool = False
    labels: tuple[str, ...] | None = None
    report: Report | None = None
    key: Path | str | None = None


def check(settings: PackageSettings) -> None:
    """Refuse what would fail after an export. Raises AttnExportError: a folder isn't empty, or the key is wrong."""
    if settings.key is not None:
        read_key(Path(settings.key), "private")
    if settings.repository is not None:
        check_repository(Path(settings.repository))
    if settings.device is not None:
        check_device_folder(Path(settings.device))


def exported(
    model: LoadedModel,
    scratch: Path,
    stem: str,
    precisions: Sequence[Precision],
    engines: EngineSettings | None,
    progress: Progress,
) -> list[Path]:
    """Proven ONNX files of a network in each precision (float32 if none), and engines and bundles if asked for."""
    from attn_export.exporter.workflows.export import export_loaded
    from attn_export.exporter.workflows.settings import ExportSettings

    settings = ExportSettings(runtimes=(), precisions=tuple(precisions) or (Precision.FP32,), engine=engines)
    result = export_loaded(model, scratch, stem, settings, progress)
    return [*result.files, *(engine.path for engine in result.engines), *result.bundles]


def package(
    files: Path | str | Sequence[Path | str], settings: PackageSettings, progress: Progress | None = None
) -> PackageSummary:
    """Write packages, and sign them: ``package("model.onnx", PackageSettings(device="device"))``.

    Args:
        files: ONNX files, engines with their sidecars and, for a device folder, deployment bundles.

    Raises:
        AttnExportError: as `write_repository` and `write_device_folder` say.
    """
    paths, progress = paths_of(files), progress or NullProgress()
    for note in _notes(paths, triton=settings.repository is not None):
        progress.note(note)
    models: tuple[Path, ...] = ()
    key = Path(settings.key) if settings.key is not None else None
    if settings.repository is not None:
        with progress.stage("Writing the model repository"):
            models = write_repository(
                paths,
                Path(settings.repository),
                settings.triton,
                labels=settings.labels,
                report=settings.report,
                key=key,
            )
    if settings.device is not None:
        with progress.stage("Writing the device folder"):
            write_device_folder(
                paths,
                Path(settings.device),
                licenses=settings.licenses,
                labels=settings.labels,
                report=settings.report,
                bom=settings.bom,
                key=key,
            )
    folders = (*models, *([Path(settings.device)] if settings.device else []))
    written = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return PackageSummary(
        models=tuple(map(str, models)),
        device=str(settings.device) if settings.device else None,
        files={str(path): path.stat().st_size for path in written},
    )


def _notes(paths: Sequence[Path], *, triton: bool) -> Iterator[str]:
    """What ONNX files can't do where they are going."""
    for artifact in (read_artifact(path) for path in paths if path.suffix.lower() == ONNX_ENDING):
        name, precision = artifact.path.name, artifact.precision
        if precision in IN_EVALUATOR:
            yield f"{name} is {precision}: engines compute that, and ONNX Runtime on a CPU doesn't"
        if triton and max_batch(artifact, 1) == 0:
            yield f"{name} has no dynamic batch: Triton puts no requests together, and --max-batch doesn't count"
