"""The command `attn-export bench model.pt model.onnx model.engine`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.artifacts import CPU
from attn_export.exporter.commands.console import command_line, make_progress, print_parts, print_with_error, stdout
from attn_export.exporter.commands.latency_options import (
    Cpus,
    Interval,
    Isolate,
    Reports,
    Seconds,
    parse_batches,
    parse_cpus,
    parse_interval,
    report_paths,
)
from attn_export.exporter.commands.options import (
    AsJson,
    Budgets,
    Debug,
    Device,
    Quiet,
    Threads,
    parse_budget_options,
    parse_device,
    parse_shape,
    split,
)
from attn_export.exporter.errors import UsageError


def bench(
    ctx: typer.Context,
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES", help="model.pt, ONNX files and engines; the first is the baseline.", show_default=False
        ),
    ],
    runtimes: Annotated[
        list[str] | None,
        typer.Option(
            help="eager, compile (of a checkpoint), onnxruntime, onnxruntime-cuda (of ONNX files).",
            show_default="eager,onnxruntime",
            metavar="NAMES",
        ),
    ] = None,
    batch: Annotated[
        list[str] | None,
        typer.Option(
            "--batch", help="Batches that are timed: 1,8,32.", show_default="the files' own, or 1", metavar="N[,N]"
        ),
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option("--input", help="1x3x224x224; by default as the files say.", show_default=False)
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="Architecture of a bare state dict, such as cbam_resnet50.", show_default=False)
    ] = None,
    interval: Interval = "2%",
    seconds: Seconds = 20.0,
    threads: Threads = None,
    cpus: Cpus = None,
    isolate: Isolate = False,
    device: Device = CPU,
    cost: Annotated[bool, typer.Option("--cost/--no-cost", help="Find out what attention costs in ONNX files.")] = True,
    reports: Reports = None,
    budgets: Budgets = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run code that the checkpoint holds; load an engine without a record.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Time a network, ONNX files and engines against each other.

    They take turns in random order until every ratio is known to --ci, or the
    time is over. Exit code 1 if a budget is broken beyond noise.

    Nothing is compared here but time: attn-export validate tells whether they
    compute the same.
    """
    shape, known, limits = parse_shape(input_shape), parse_interval(interval), parse_budget_options(budgets)
    batches = parse_batches(batch) or ((shape[0],) if shape else ())
    if shape and batch and shape[0] not in batches:
        raise UsageError(
            f"--input {input_shape} and --batch {','.join(batch)} contradict each other", hint="Leave one out."
        )
    checkpoint, files = split_sources(sources)
    if arch is not None and checkpoint is None:
        raise UsageError(f"--arch {arch} says what a checkpoint is of, and none was named", hint="Leave it out.")
    written = report_paths(reports)
    if trust:  # a module's code is usually beside the place where it was trained
        sys.path.insert(0, str(Path.cwd()))
    with make_progress(quiet) as progress:
        from msgspec import structs

        from attn_export.exporter.budgets.check import check_budgets, failure
        from attn_export.exporter.records.latency import Schedule
        from attn_export.exporter.report.write import check_reports, write_reports
        from attn_export.exporter.workflows.bench import BenchSettings, refuse_budgets
        from attn_export.exporter.workflows.bench import bench as benched
        from attn_export.exporter.workflows.record import bench_report

        check_reports(written)
        settings = BenchSettings(
            runtimes=split(runtimes),
            batches=batches,
            threads=threads,
            cpus=parse_cpus(cpus),
            schedule=Schedule(interval=known, seconds=seconds),
            device=parse_device(device),
            isolate=isolate,
            cost=cost,
            show=bool(written),
        )
        refuse_budgets(limits, settings, module=checkpoint is not None, files=files)
        model = None
        if checkpoint is not None:
            with progress.stage("Reading the checkpoint"):
                from attn_export.exporter.checkpoint.load import load

                model = load(checkpoint, arch=arch, input_shape=shape[1:] if shape else None, trust=trust)
            for note in model.notes:
                progress.note(note)
        result = benched(
            model, files, input_shape=shape[1:] if shape else None, settings=settings, trust=trust, progress=progress
        )
        document = bench_report(result, command_line(ctx))
        document = structs.replace(document, budgets=check_budgets(document, limits))
        error = failure(document.budgets)
        write_reports(document, written)
    if as_json:
        print_with_error(document, error)
        return
    from attn_export.exporter.report.terminal import bench_parts

    print_parts(bench_parts(document))
    for path in written:
        stdout().print(str(path), style="bold")
    if error is not None:
        raise error


def split_sources(sources: list[Path]) -> tuple[Path | None, list[Path]]:
    """The checkpoint, if there is one, and the artifacts.

    Raises:
        UsageError: there are several checkpoints.
    """
    from attn_export.exporter.validation.artifact import CHECKPOINTS

    found = [path for path in sources if path.suffix.lower() in CHECKPOINTS]
    if len(found) > 1:
        raise UsageError(
            f"{found[0]} and {found[1]} are both checkpoints", hint="Name one network, and any number of its artifacts."
        )
    return (found[0] if found else None), [path for path in sources if path not in found]
