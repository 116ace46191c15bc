"""The command `attn-export bench model.pt model.onnx model.engine`."""

from pathlib import Path
from typing import Annotated

import typer

from attn_export.exporter.artifacts import CHECKPOINTS, CPU, DEVICES, names_network
from attn_export.exporter.commands import options, parse
from attn_export.exporter.commands.console import command_line, load_checkpoint, make_progress, print_result
from attn_export.exporter.commands.groups import LoadingBesideEngines, Shown, given
from attn_export.exporter.errors import UsageError


def bench(
    ctx: typer.Context,
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILES", help="model.pt, ONNX files, engines; the first is the baseline.")
    ],
    *,
    runtimes: options.Runtimes = None,
    batch: options.Batches = None,
    loading: LoadingBesideEngines,
    interval: options.Interval = "2%",
    seconds: options.Seconds = 20.0,
    threads: options.Threads = None,
    cpus: options.Cpus = None,
    isolate: options.Isolate = False,
    device: options.Device = CPU,
    cost: Annotated[bool, typer.Option("--cost/--no-cost", help="Measure the cost of attention in ONNX files.")] = True,
    reports: options.Reports = None,
    budgets: options.Budgets = None,
    shown: Shown,
) -> None:
    """Time a network, ONNX files and engines against each other.

    Their runs are interleaved in random order until every ratio is known to
    --ci, or the time is over. Exit code 1 if a budget is broken beyond noise.

    Outputs aren't compared: attn-export validate does that.
    """
    checkpoint, files = split_sources(sources)
    how, known = loading.parse(checkpoint), parse.parse_percent("--ci", interval, below=1)
    taken, limits = how.inputs, parse.parse_budget_options(budgets)
    written = parse.report_paths(reports)
    batches = parse.parse_batches(batch) or ((taken[0].shape[0],) if taken else ())
    if taken and batch and taken[0].shape[0] not in batches:
        raise UsageError(
            f"--input {' '.join(loading.inputs or ())} and --batch {','.join(batch)} contradict each other",
            hint="Leave one out.",
        )
    if checkpoint is None:
        named = given(loading, but=["inputs", "ranges", "trust"])
        parse.refuse(named, "for a checkpoint, and none was named", "Leave it out.")
    with make_progress(shown.quiet) as progress:
        from msgspec import structs

        from attn_export.exporter.budgets.check import check_budgets, failure
        from attn_export.exporter.records.latency import Schedule
        from attn_export.exporter.report.terminal import bench_parts
        from attn_export.exporter.report.write import check_reports, write_reports
        from attn_export.exporter.workflows.bench import bench as run_bench
        from attn_export.exporter.workflows.bench import refuse_budgets
        from attn_export.exporter.workflows.record import bench_report
        from attn_export.exporter.workflows.settings import BenchSettings

        check_reports(written)
        settings = BenchSettings(
            runtimes=parse.split(runtimes),
            batches=batches,
            threads=threads,
            cpus=parse.parse_cpus(cpus),
            schedule=Schedule(interval=known, seconds=seconds),
            device=parse.choice("--device", device, DEVICES),
            isolate=isolate,
            cost=cost,
            show=bool(written),
        )
        refuse_budgets(limits, settings, module=checkpoint is not None, files=files)
        model = None
        if checkpoint is not None:
            model = load_checkpoint(checkpoint, progress, how)
        result = run_bench(model, files, inputs=taken, settings=settings, trust=how.trust, progress=progress)
        document = bench_report(result, command_line(ctx))
        document = structs.replace(document, budgets=check_budgets(document, limits))
        write_reports(document, written)
    error = failure(document.budgets)
    print_result(document, bench_parts(document), as_json=shown.as_json, reports=written, error=error)


def split_sources(sources: list[Path]) -> tuple[Path | None, list[Path]]:
    """The checkpoint, if there is one, and the artifacts. Raises UsageError: there are several checkpoints."""
    found = [path for path in sources if names_network(path) or path.suffix.lower() in CHECKPOINTS]
    if len(found) > 1:
        raise UsageError(
            f"{found[0]} and {found[1]} are both checkpoints", hint="Name one network, and any number of its artifacts."
        )
    return (found[0] if found else None), [path for path in sources if path not in found]
