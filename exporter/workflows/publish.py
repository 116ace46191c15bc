"""Gives finished files their names: nothing unproven ever has its final name."""

from collections.abc import Sequence
from pathlib import Path

from attn_export.exporter.engine.job import publish_engine
from attn_export.exporter.engine.sidecar import sidecar_path
from attn_export.exporter.graph.write import publish_with_weights
from attn_export.exporter.records.document import encode
from attn_export.exporter.records.report import Report
from attn_export.exporter.records.results import Deployed
from attn_export.exporter.system.files import publish, refuse_folders, write_text


def write_report(report: Report, path: Path) -> Path:
    """Write a report as JSON.

    Raises:
        OutputError: it can't be written.
    """
    write_text(path, encode(report))
    return path


def publish_all(
    files: Sequence[Path],
    deployed: Sequence[Deployed],
    folder: Path,
    *,
    engine_path: Path | None = None,
    report: Path | None = None,
) -> Deployed:
    """Move the results of a workflow out of its scratch folder.

    Args:
        files: ONNX files; each keeps its file name, as engines and bundles do.
        deployed: engines and bundles.
        folder: of the results.
        engine_path: of the one engine, if it has a name of its own.
        report: the report as JSON, which is published last.

    Returns:
        The engines and bundles under their final names.

    Raises:
        OutputError: a folder has one of the names, before any file is published; or a file can't be written.
    """
    engines = [(e, engine_path or folder / e.path.name) for one in deployed for e in one.engines]
    bundles = [bundle for one in deployed for bundle in one.bundles]
    others = [*files, *bundles, *([report] if report else [])]
    paths = [path for _, path in engines]
    refuse_folders([*(folder / path.name for path in others), *paths, *map(sidecar_path, paths)])
    for file in files:
        publish_with_weights(file, folder / file.name)
    published = Deployed(
        tuple(publish_engine(engine, path) for engine, path in engines),
        tuple(folder / bundle.name for bundle in bundles),
    )
    for path in (*bundles, *([report] if report else [])):
        publish(path, folder / path.name)
    return published
