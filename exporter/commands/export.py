"""The command `attn-export model.pt --onnx`."""

import difflib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.artifacts import CPU, Target
from attn_export.exporter.commands.console import command_line, make_progress, print_parts, print_with_error
from attn_export.exporter.commands.engine_options import (
    AUTO,
    AllowMixed,
    BackendName,
    Batch,
    Gpus,
    KeepGoing,
    Precisions,
    Size,
    Tf32,
    engine_settings,
    parse_precisions,
    refuse_without_engine,
)
from attn_export.exporter.commands.latency_options import (
    Interval,
    Reports,
    Seconds,
    parse_interval,
    report_paths,
)
from attn_export.exporter.commands.options import (
    AsJson,
    Budgets,
    Debug,
    Device,
    For,
    Quiet,
    Threads,
    Trust,
    parse_axes,
    parse_budget_options,
    parse_device,
    parse_shape,
    parse_target,
    split,
)
from attn_export.exporter.errors import UnreadableCheckpointError, UsageError


def export(
    ctx: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="The trained network: model.pt", show_default=False)],
    onnx: Annotated[bool, typer.Option("--onnx", help="Write <stem>.onnx, proven equal to PyTorch.")] = False,
    engine: Annotated[
        bool, typer.Option("--engine", help="Write <stem>.engine for TensorRT, and the ONNX file that it is made of.")
    ] = False,
    precisions: Precisions = None,
    arch: Annotated[
        str | None, typer.Option(help="Architecture of a bare state dict, such as cbam_resnet50.", show_default=False)
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option("--input", help="1x3x224x224; by default as the checkpoint says. N is timed.", show_default=False),
    ] = None,
    dynamic: Annotated[
        list[str] | None,
        typer.Option(help="Axes that stay open: batch,height,width.", show_default="batch", metavar="AXES"),
    ] = None,
    static: Annotated[bool, typer.Option("--static", help="No axis stays open.")] = False,
    opset: Annotated[int, typer.Option(help="ONNX operator set of the file.")] = 20,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results.", show_default="beside the checkpoint")
    ] = None,
    runtimes: Annotated[
        list[str] | None,
        typer.Option(
            help="What is timed: eager, compile, onnxruntime, onnxruntime-cuda.",
            show_default="eager,onnxruntime",
            metavar="NAMES",
        ),
    ] = None,
    bench: Annotated[bool, typer.Option("--bench/--no-bench", help="Measure latencies.")] = True,
    interval: Interval = "2%",
    seconds: Seconds = 8.0,
    reports: Reports = None,
    budgets: Budgets = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Judge on real images too, 16 at most: .npy or .npz with (N, C, H, W) as the network takes them.",
            show_default=False,
        ),
    ] = None,
    target: For = None,
    threads: Threads = None,
    device: Device = CPU,
    gpus: Gpus = None,
    backend: BackendName = AUTO,
    batch: Batch = None,
    size: Size = None,
    tf32: Tf32 = False,
    allow_mixed: AllowMixed = False,
    keep_going: KeepGoing = False,
    trust: Trust = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Turn a checkpoint into a proven, timed ONNX file.

    The file is compared with PyTorch in float64 before it gets its name; what disagrees is not written.

    The command needs no name: attn-export model.pt --onnx
    """
    suggest_for_missing(checkpoint, list(ctx.parent.command.commands) if ctx.parent else [])  # type: ignore[attr-defined]
    if not (onnx or engine):
        raise UsageError("nothing was asked for", hint=f"Say what to make: attn-export {checkpoint} --onnx")
    if not engine:
        refuse_without_engine(
            {
                "--gpu": gpus,
                "--backend": backend != AUTO,
                "--batch": batch,
                "--size": size,
                "--tf32": tf32,
                "--allow-mixed": allow_mixed,
                "--keep-going": keep_going,
            }
        )
    axes, shape, chosen = parse_axes(dynamic, static), parse_shape(input_shape), parse_precisions(precisions)
    # What TensorRT prefers is good for an engine, and no worse for anything else that wasn't asked for.
    graph_for = Target.TENSORRT if engine and target is None else parse_target(target)
    build = engine_settings(
        gpus,
        backend,
        batch,
        size,
        opt_batch=shape[0] if shape else 1,
        tf32=tf32,
        allow_mixed=allow_mixed,
        keep_going=keep_going,
    )
    if trust:  # a module's code is usually beside the place where it was trained
        sys.path.insert(0, str(Path.cwd()))
    known, limits, written = parse_interval(interval), parse_budget_options(budgets), report_paths(reports)
    with make_progress(quiet) as progress:
        from attn_export.exporter.budgets.check import failure
        from attn_export.exporter.budgets.parse import refuse_untimed
        from attn_export.exporter.records.latency import Schedule
        from attn_export.exporter.report.write import check_reports, write_reports
        from attn_export.exporter.runtimes import DEFAULT_RUNTIMES, RUNS_ENGINES, check_names
        from attn_export.exporter.workflows.export import export_loaded
        from attn_export.exporter.workflows.settings import ExportSettings

        check_reports(written)
        names = check_names(split(runtimes)) or DEFAULT_RUNTIMES
        refuse_untimed(limits, (*names, *(RUNS_ENGINES if engine else ())) if bench else ())
        settings = ExportSettings(
            dynamic=axes,
            opset=opset,
            batch=shape[0] if shape else 1,
            runtimes=names if bench else (),
            threads=threads,
            schedule=Schedule(interval=known, seconds=seconds),
            target=graph_for,
            precisions=chosen,
            engine=build if engine else None,
            device=parse_device(device),
            show=bool(written),
            budgets=limits,
            command=command_line(ctx),
        )
        with progress.stage("Reading the checkpoint"):
            from attn_export.exporter.checkpoint.load import load

            model = load(checkpoint, arch=arch, input_shape=shape[1:] if shape else None, trust=trust)
        for note in model.notes:
            progress.note(note)
        if images is not None:
            from attn_export.exporter.network.real_images import read_images

            settings = replace(settings, images=read_images(images, model.input_shape))
        result = export_loaded(model, out or checkpoint.parent, checkpoint.stem, settings, progress)
        write_reports(result.report, written)
        from attn_export.exporter.workflows.clean import error_of

        error = error_of(result.reverted) or failure(result.report.budgets)
    if as_json:
        print_with_error(result.report, error)
        return
    from attn_export.exporter.report.terminal import export_parts, export_summary

    summary = export_summary(result.report, result.onnx.parent, (result.report_path, *written))
    print_parts([*export_parts(result.report), summary])
    if error is not None:
        raise error


def suggest_for_missing(checkpoint: Path, known: Sequence[str]) -> None:
    """For a word that stands where a checkpoint should and is neither a file nor a command, the nearest of either.

    Raises:
        UsageError: there is no such file, and something else was probably meant.
        UnreadableCheckpointError: there is no such file, and nothing is near.
    """
    if checkpoint.exists():
        return
    word = str(checkpoint)
    commands = [name for name in known if name != "export"]
    beside = [str(p) for p in checkpoint.parent.glob("*.pt")] if checkpoint.parent.is_dir() else []
    if near := difflib.get_close_matches(word, commands, n=1, cutoff=0.7):
        raise UsageError(f"{word!r} is neither a file nor a command", hint=f"Did you mean attn-export {near[0]}?")
    if near := difflib.get_close_matches(word, beside, n=1, cutoff=0.7):
        raise UsageError(f"there is no file {word!r}", hint=f"Did you mean {near[0]}?")
    raise UnreadableCheckpointError(
        f"{checkpoint} does not exist", hint=f"Expected is a checkpoint, or a command: {', '.join(commands)}."
    )
