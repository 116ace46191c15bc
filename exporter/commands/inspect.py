"""The command `attn-export inspect model.onnx`, or `model.engine`."""

from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.commands.console import make_progress, print_json, print_parts
from attn_export.exporter.commands.options import AsJson, Debug, Quiet
from attn_export.exporter.errors import UntrustedEngineError


def inspect(
    source: Annotated[Path, typer.Argument(help="An ONNX file of opset 11 and up, or an engine.", show_default=False)],
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the attention blocks of an ONNX file or an engine.

    Of an ONNX file with the modules they came from, of an engine with the
    kernels, bytes and types that they take. An engine isn't loaded: what is
    shown stands in the record beside it.
    """
    if is_engine(source):
        inspect_engine(source, as_json)
        return
    with make_progress(quiet) as progress, progress.stage("Reading the graph"):
        from attn_export.exporter.cleanup.inspect import inspect_file

        blocks = inspect_file(source)
    if as_json:
        from attn_export.exporter.records.summaries import Inventory

        print_json(Inventory(path=str(source), attention=blocks))
        return
    from attn_export.exporter.report.terminal import inventory_parts

    print_parts(inventory_parts(source, blocks))


def is_engine(source: Path) -> bool:
    """Whether a file is named like an engine, or has an engine's record beside it."""
    from attn_export.exporter.engine.sidecar import sidecar_path

    return source.suffix in (".engine", ".plan", ".trt") or sidecar_path(source).exists()


def inspect_engine(source: Path, as_json: bool) -> None:
    """Print an engine's record.

    Raises:
        UnreadableEngineError, UntrustedEngineError: it isn't whole, has no record, or was changed since.
    """
    from attn_export.exporter.engine.sidecar import check_file, sidecar_path
    from attn_export.exporter.records.engine import EngineFile
    from attn_export.exporter.report.terminal import engine_parts

    try:
        record = check_file(source, trust=False)
    except UntrustedEngineError as error:  # its hint is for those who would load it
        hint = f"What is shown stands in {sidecar_path(source).name}. Copy both files again, or build the engine again."
        raise UntrustedEngineError(error.message, hint=hint) from error
    assert record is not None  # only trusted engines have none
    if as_json:
        from attn_export.exporter.records.summaries import EngineInspection

        print_json(EngineInspection(path=str(source), engine=record))
        return
    print_parts(engine_parts(EngineFile(source, record)))
