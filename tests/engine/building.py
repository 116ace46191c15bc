"""Builds an engine of a file, without what `attn-export build` compares and writes besides."""

from pathlib import Path

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.engine.graph import read_graph
from attn_export.exporter.engine.job import build_graph
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.records.engine import EngineFile
from attn_export.exporter.system.progress import NullProgress, Progress


def build_file(
    source: Path | str,
    out: Path | str,
    settings: EngineSettings | None = None,
    *,
    precision: Precision | None = None,
    progress: Progress | None = None,
) -> EngineFile:
    settings, progress = settings or EngineSettings(), progress or NullProgress()
    return build_graph(read_graph(Path(source)), Path(out), settings, precision=precision, progress=progress)
