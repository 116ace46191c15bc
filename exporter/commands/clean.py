"""The command `attn-export clean in.onnx -o out.onnx`."""

from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.commands.console import make_progress, print_parts, print_with_error
from attn_export.exporter.commands.options import AsJson, Debug, For, Quiet, Threads, parse_target


def clean(
    source: Annotated[Path, typer.Argument(help="Any ONNX file of opset 11 and up.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--output", help="The cleaned file.", show_default=False)],
    target: For = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say how often each rule fired, and why it didn't where it nearly did.")
    ] = False,
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Clean an ONNX file; every rewrite is proven.

    The same function in the form that suits what runs it. Each rewrite is proven in float64 before it takes place, and
    the result is compared with the file it was made of.
    """
    graph_for = parse_target(target)
    with make_progress(quiet) as progress:
        from attn_export.exporter.workflows.clean import clean_file, error_of, refuse_reverted
        from attn_export.exporter.workflows.record import clean_summary as summary_of

        result = clean_file(source, out, target=graph_for, threads=threads, progress=progress)
    if as_json:
        print_with_error(summary_of(result), error_of(result.cleaned.reverted))
    else:
        from attn_export.exporter.report.terminal import clean_parts

        print_parts(clean_parts(result, explain=explain))
        refuse_reverted(result.cleaned.reverted)
