"""The command `attn-export model.pt --onnx`."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.artifacts import AROUND, CPU, DEVICES, ONNX_ENDING, Precision, Target, names_network
from attn_export.exporter.commands import options, parse
from attn_export.exporter.commands.console import command_line, load_checkpoint, make_progress, print_result
from attn_export.exporter.commands.groups import Engines, RangedLoading, Resizing, Served, Shown, given
from attn_export.exporter.commands.parse_inputs import parse_axes
from attn_export.exporter.errors import UnreadableCheckpointError, UsageError
from attn_export.exporter.system.files import is_taken


def export(
    ctx: typer.Context,
    checkpoint: options.Checkpoint,
    *,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write <stem>.onnx, proven equal to PyTorch.")] = False,
    engine: Annotated[
        bool, typer.Option("--engine", help="Write <stem>.engine for TensorRT, and <stem>.onnx.")
    ] = False,
    precisions: options.Precisions = None,
    calibration: options.Calibration = None,
    around: options.Around = "fp32",
    io: options.Io = "float32",
    loading: RangedLoading,
    dynamic: Annotated[
        list[str] | None,
        typer.Option(
            help="Dynamic axes: batch,height,width; of one input: image:batch,height.",
            show_default="batch",
            metavar="AXES",
        ),
    ] = None,
    static: Annotated[bool, typer.Option("--static", help="No dynamic axis.")] = False,
    opset: Annotated[int, typer.Option(help="ONNX operator set of the file.")] = 20,
    out: Annotated[Path | None, typer.Option(help="Output folder.", show_default="beside the checkpoint")] = None,
    runtimes: options.Runtimes = None,
    bench: Annotated[bool, typer.Option("--bench/--no-bench", help="Measure latencies at --input's batch.")] = True,
    interval: options.Interval = "2%",
    seconds: options.Seconds = 8.0,
    reports: options.Reports = None,
    budgets: options.Budgets = None,
    images: options.Images = None,
    evaluation: options.Evaluate = None,
    requirement: options.Require = None,
    resizing: Resizing,
    served: Served,
    target: options.For = None,
    threads: options.Threads = None,
    device: options.Device = CPU,
    engines: Engines,
    shown: Shown,
) -> None:
    """Turn a checkpoint into a proven, timed ONNX file.

    The file is compared with PyTorch in float64 before it gets its name; a file that disagrees is not written.

    The command needs no name: attn-export model.pt --onnx
    """
    suggest_for_missing(checkpoint, list(ctx.parent.command.commands) if ctx.parent else [])  # type: ignore[attr-defined]
    if not (onnx or engine):
        raise UsageError("neither --onnx nor --engine was given", hint=f"For example attn-export {checkpoint} --onnx")
    chosen = parse.parse_precisions(precisions) or (Precision.FP32,)
    if not engine:
        for_engines = given(engines) | {"--precision tf32": Precision.TF32 in chosen}
        parse.refuse(for_engines, "for engines", "Add --engine, or leave it out.")
    axes, how = parse_axes(dynamic, static), loading.parse(checkpoint)
    if requirement and evaluation is None:
        raise UsageError("--require needs labelled images", hint="Add --eval DIR.")
    as_asked, batch = served.parse(), how.inputs[0].shape[0] if how.inputs else 1
    stem = checkpoint.name.partition(":")[2] if names_network(checkpoint) else checkpoint.stem
    # TensorRT's form is good for engines, and no worse for the other runtimes of such an export.
    graph_for = Target.TENSORRT if engine and target is None else parse.parse_target(target)
    known, written = parse.parse_percent("--ci", interval, below=1), parse.report_paths(reports)
    limits = parse.parse_budget_options(budgets)
    sources = [*(images or ()), *(calibration or ()), *([evaluation] if evaluation else [])]
    pictures, build = resizing.parse(sources), engines.parse(opt_batch=batch)
    with make_progress(shown.quiet) as progress:
        from attn_export.exporter.budgets.check import failure
        from attn_export.exporter.budgets.parse import refuse_untimed
        from attn_export.exporter.records.latency import Schedule
        from attn_export.exporter.report.terminal import export_parts, export_summary
        from attn_export.exporter.report.write import check_reports, write_reports
        from attn_export.exporter.runtimes import DEFAULT_RUNTIMES, RUNS_ENGINES, check_names
        from attn_export.exporter.validation.accuracy import missed
        from attn_export.exporter.validation.quantized import parse_requirement
        from attn_export.exporter.workflows.clean import error_of
        from attn_export.exporter.workflows.export import export_loaded
        from attn_export.exporter.workflows.served import as_served
        from attn_export.exporter.workflows.settings import ExportSettings

        check_reports(written)
        required = parse_requirement(parse.split(requirement))
        names = check_names(parse.split(runtimes)) or DEFAULT_RUNTIMES
        refuse_untimed(limits, (*names, *(RUNS_ENGINES if engine else ())) if bench else ())
        settings = ExportSettings(
            dynamic=axes,
            opset=opset,
            batch=batch,
            runtimes=names if bench else (),
            threads=threads,
            schedule=Schedule(interval=known, seconds=seconds),
            target=graph_for,
            precisions=chosen,
            calibration=calibration or None,
            around=parse.choice("--around", around, AROUND),
            native_io=parse.choice("--io", io, ("float32", "native")) == "native",
            engine=build if engine else None,
            device=parse.choice("--device", device, DEVICES),
            images=images or None,
            pictures=pictures,
            evaluation=evaluation,
            requirement=required,
            show=bool(written),
            budgets=limits,
            command=command_line(ctx),
        )
        model = as_served(load_checkpoint(checkpoint, progress, how), as_asked)
        place, is_result = (out or checkpoint.parent) / checkpoint.name, checkpoint.suffix in (ONNX_ENDING, ".engine")
        if is_result and is_taken(place) and place.samefile(checkpoint):
            raise UsageError(f"{checkpoint} could be replaced by its export", hint=f"Rename it: {stem}.pt")
        result = export_loaded(model, out or checkpoint.parent, stem, settings, progress)
        write_reports(result.report, written)
    error = error_of(result.reverted) or failure(result.report.budgets) or missed(result.report.evaluation)
    summary = export_summary(result.report, result.onnx.parent, (result.report_path, *written))
    print_result(result.report, [*export_parts(result.report), summary], as_json=shown.as_json, error=error)


def suggest_for_missing(checkpoint: Path, known: Sequence[str]) -> None:
    """For a missing checkpoint, suggest the command or the file with the most similar name.

    Raises:
        UsageError: the checkpoint is missing, and something has a similar name.
        UnreadableCheckpointError: it is missing, and nothing has.
    """
    if checkpoint.exists() or checkpoint.is_symlink() or names_network(checkpoint):
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
