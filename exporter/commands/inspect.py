"""The command `attn-export inspect model.onnx`."""

from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.commands.console import SCHEMA_VERSION, listener, print_json, stdout
from attn_export.exporter.commands.options import AsJson, Debug, Quiet


def inspect(
    source: Annotated[Path, typer.Argument(help="Any ONNX file of opset 11 and up.", show_default=False)],
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the attention blocks of an ONNX file, with the modules they came from."""
    with listener(quiet) as progress, progress.stage("Reading the graph"):
        from attn_export.exporter.cleaning import inspect_file
        from attn_export.exporter.report.record import blocks_record

        blocks = inspect_file(source)
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, "path": str(source), "attention": blocks_record(blocks)})
        return
    from attn_export.exporter.report.graphs import inventory_table

    stdout().print(inventory_table(blocks))
