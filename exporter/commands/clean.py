"""The command `attn-export clean in.onnx -o out.onnx`."""

from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.commands import options, parse
from attn_export.exporter.commands.console import make_progress, print_result
from attn_export.exporter.commands.groups import Pictures, Shown


def clean(
    source: Annotated[Path, typer.Argument(help="An ONNX file of opset 11 or later.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="The cleaned file; it may replace the source.")],
    *,
    target: options.For = None,
    explain: Annotated[bool, typer.Option("--explain", help="List applied, skipped and reverted rewrites.")] = False,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR|FILE", help="Compare on real images too, at most 16: a folder, pictures, .npy or .npz."
        ),
    ] = None,
    pictures: Pictures,
    threads: options.Threads = None,
    shown: Shown,
) -> None:
    """Clean an ONNX file; every rewrite is proven.

    The same function in the form that suits the runtime. Every rewrite is
    compared in float64 before it is applied, and the result with the source.
    """
    graph_for = parse.parse_target(target)
    preprocessing = pictures.parse(images or ())
    with make_progress(shown.quiet) as progress:
        from attn_export.exporter.report.terminal import clean_parts
        from attn_export.exporter.workflows.clean import clean_file, error_of
        from attn_export.exporter.workflows.record import clean_summary

        result = clean_file(
            source,
            out,
            target=graph_for,
            threads=threads,
            images=images or None,
            pictures=preprocessing,
            progress=progress,
        )
    parts, error = clean_parts(result, explain=explain), error_of(result.cleaned.reverted)
    print_result(clean_summary(result), parts, as_json=shown.as_json, error=error)
