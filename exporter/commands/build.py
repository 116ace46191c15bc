"""The command `attn-export build model.onnx --gpu sm86`."""

from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.commands.console import make_progress, print_json, print_parts
from attn_export.exporter.commands.engine_options import (
    AUTO,
    AllowMixed,
    BackendName,
    Batch,
    Gpus,
    HardwareCompatible,
    KeepGoing,
    Size,
    Tf32,
    TimingCache,
    VersionCompatible,
    Workspace,
    engine_settings,
    parse_precisions,
)
from attn_export.exporter.commands.options import AsJson, Debug, Quiet, Threads


def build(
    source: Annotated[Path, typer.Argument(help="An ONNX file, or a deployment bundle.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The engine.", show_default="<stem>.engine beside the file"),
    ] = None,
    gpus: Gpus = None,
    precisions: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            help="What the engines compute in: fp32,fp16.",
            show_default="as the file does",
            metavar="NAMES",
        ),
    ] = None,
    backend: BackendName = AUTO,
    batch: Batch = None,
    size: Size = None,
    tf32: Tf32 = False,
    allow_mixed: AllowMixed = False,
    keep_going: KeepGoing = False,
    workspace: Workspace = None,
    timing_cache: TimingCache = None,
    version_compatible: VersionCompatible = False,
    hardware_compatible: HardwareCompatible = False,
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Build a TensorRT engine of an ONNX file.

    With tensorrt-rtx this needs no GPU. For a Jetson a bundle is written, which
    this command builds on the device.
    """
    settings = engine_settings(
        gpus,
        backend,
        batch,
        size,
        tf32=tf32,
        allow_mixed=allow_mixed,
        keep_going=keep_going,
        workspace=workspace,
        timing_cache=timing_cache,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
    )
    chosen = parse_precisions(precisions) if precisions else None
    with make_progress(quiet) as progress:
        from attn_export.exporter.bundle.read import is_bundle
        from attn_export.exporter.workflows.build import build_all, build_from_bundle
        from attn_export.exporter.workflows.record import build_summary

        if is_bundle(source):
            result = build_from_bundle(source, out, precisions=chosen, settings=settings, progress=progress)
        else:
            result = build_all(source, out, precisions=chosen, settings=settings, threads=threads, progress=progress)
    if as_json:
        print_json(build_summary(result))
        return
    from attn_export.exporter.report.terminal import build_parts

    print_parts(build_parts(result))
