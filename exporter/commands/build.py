"""The command `attn-export build model.onnx --gpu sm86`."""

from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.commands import options, parse
from attn_export.exporter.commands.console import make_progress, print_result
from attn_export.exporter.commands.groups import Engines, Shown


def build(
    source: Annotated[Path, typer.Argument(help="An ONNX file, or a deployment bundle.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="The engine.", show_default="<stem>.engine beside the file")
    ] = None,
    *,
    precisions: options.Precisions = None,
    engines: Engines,
    workspace: options.Workspace = None,
    timing_cache: options.TimingCache = None,
    version_compatible: options.VersionCompatible = False,
    hardware_compatible: options.HardwareCompatible = False,
    threads: options.Threads = None,
    shown: Shown,
) -> None:
    """Build a TensorRT engine of an ONNX file.

    TensorRT-RTX needs no GPU for that. For a Jetson a deployment bundle is
    written; the same command builds it on the device.
    """
    from attn_export.exporter.records.engine import BuildOptions

    passed = BuildOptions(
        workspace_mib=workspace,
        timing_cache=timing_cache,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
    )
    settings = engines.parse(options=passed)
    chosen = parse.parse_precisions(precisions) or None
    with make_progress(shown.quiet) as progress:
        from attn_export.exporter.bundle.read import is_bundle
        from attn_export.exporter.report.terminal import build_parts
        from attn_export.exporter.workflows.build import build_all
        from attn_export.exporter.workflows.build_bundle import build_from_bundle

        if is_bundle(source):
            result = build_from_bundle(source, out, precisions=chosen, settings=settings, progress=progress)
        else:
            result = build_all(source, out, precisions=chosen, settings=settings, threads=threads, progress=progress)
    print_result(result, build_parts(result), as_json=shown.as_json)
