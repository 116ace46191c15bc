"""Copies artifacts into packages."""

import shutil
from pathlib import Path


def copy_artifact(source: Path, path: Path) -> None:
    """Copy an ONNX file with its external weights, or an engine. Raises OSError: it can't be copied."""
    from attn_export.exporter.graph import write as onnx_file
    from attn_export.exporter.graph.read import read

    if source.suffix.lower() == ".onnx" and _has_weight_files(source):
        onnx_file.save(read(source), path)  # weights that don't fit into it get the new name
    else:
        shutil.copyfile(source, path)


def _has_weight_files(path: Path) -> bool:
    import onnx
    from onnx.external_data_helper import uses_external_data

    return any(map(uses_external_data, onnx.load(path, load_external_data=False).graph.initializer))
