"""The command `attn-export inspect model.onnx`, or `model.engine`."""

from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.commands.console import make_progress, print_result
from attn_export.exporter.commands.groups import Shown
from attn_export.exporter.errors import UntrustedEngineError


def inspect(
    source: Annotated[Path, typer.Argument(help="An ONNX file of opset 11 or later, or an engine.")],
    *,
    shown: Shown,
) -> None:
    """List the attention blocks of an ONNX file or an engine.

    For an ONNX file their modules are shown, for an engine their kernels, bytes
    and types. The engine isn't loaded: its sidecar has the facts.
    """
    if is_engine(source):
        inspect_engine(source, as_json=shown.as_json)
        return
    with make_progress(shown.quiet) as progress, progress.stage("Reading the graph"):
        from attn_export.exporter.cleanup.inspect import inspect_file
        from attn_export.exporter.records.summaries import Inventory
        from attn_export.exporter.report.terminal import inventory_parts

        blocks = inspect_file(source)
    print_result(Inventory(path=str(source), attention=blocks), inventory_parts(source, blocks), as_json=shown.as_json)


def is_engine(source: Path) -> bool:
    """Whether a file is named like an engine, or has an engine's record beside it."""
    from attn_export.exporter.engine.sidecar import sidecar_path

    return source.suffix in (".engine", ".plan", ".trt") or sidecar_path(source).exists()


def inspect_engine(source: Path, *, as_json: bool) -> None:
    """Print an engine's record. Raises UnreadableEngineError, UntrustedEngineError: it isn't as it was built."""
    from attn_export.exporter.engine.sidecar import check_file, sidecar_path
    from attn_export.exporter.records.engine import EngineFile
    from attn_export.exporter.records.summaries import EngineInspection
    from attn_export.exporter.report.terminal import engine_parts

    try:
        record = check_file(source, trust=False)
    except UntrustedEngineError as error:  # its hint is for those who would load the engine
        hint = f"The facts are in {sidecar_path(source).name}. Copy both files again, or build the engine again."
        raise UntrustedEngineError(error.message, hint=hint) from error
    assert record is not None  # only trusted engines have none
    document = EngineInspection(path=str(source), engine=record)
    print_result(document, engine_parts(EngineFile(source, record)), as_json=as_json)
