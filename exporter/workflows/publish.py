"""Gives finished files their names: nothing unproven ever has its final name."""

from collections.abc import Sequence
from pathlib import Path

from attn_export.exporter.engine import job as engine_job
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.records.document import encode
from attn_export.exporter.records.engine import EngineFile
from attn_export.exporter.records.report import Report
from attn_export.exporter.records.results import Deployed
from attn_export.exporter.system.files import write_text
from attn_export.exporter.system.generation import publish_together


def write_report(report: Report, path: Path) -> Path:
    """Write a report as JSON. Raises OutputError: it can't be written."""
    write_text(path, encode(report))
    return path


def publish_all(
    files: Sequence[Path],
    deployed: Sequence[Deployed],
    folder: Path,
    scratch: Path,
    *,
    engine_path: Path | None = None,
    report: Path | None = None,
) -> Deployed:
    """Move the results of a workflow out of its scratch folder, all or none.

    All keep their file names, but for an engine with an ``engine_path`` of its own.

    Returns:
        The engines and bundles under their final names.

    Raises:
        OutputError: a file can't be written, or a folder has its name; every path is as it was.
    """
    engines = [(e, engine_path or folder / e.path.name) for one in deployed for e in one.engines]
    bundles = [bundle for one in deployed for bundle in one.bundles]
    moves = [move for file in files for move in onnx_file.moves_of(file, folder / file.name)]
    moves += [move for engine, path in engines for move in engine_job.moves_of(engine, path)]
    moves += [(path, folder / path.name) for path in (*bundles, *([report] if report else []))]
    publish_together(moves, scratch)
    return Deployed(
        tuple(EngineFile(path, engine.record) for engine, path in engines),
        tuple(folder / bundle.name for bundle in bundles),
    )
