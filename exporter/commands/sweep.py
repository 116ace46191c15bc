"""The command `attn-export sweep plan.toml`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from attn_export.exporter.commands.console import print_json, print_result, stdout
from attn_export.exporter.commands.groups import Loading, Shown
from attn_export.exporter.commands.parse_pictures import parse_normalization
from attn_export.exporter.errors import OutputError

if TYPE_CHECKING:
    from attn_export.exporter.artifacts import LoadOptions
    from attn_export.exporter.report.sweep.live import Watch
    from attn_export.exporter.sweep.plan import Model


def sweep(
    plan: Annotated[Path, typer.Argument(help="The plan, a TOML file; docs/sweep.md lists its keys.")] = Path(
        "plan.toml"
    ),
    out: Annotated[
        Path | None,
        Option("-o", "--output", help="Folder of the results.", show_default="<plan>.sweep beside the plan"),
    ] = None,
    *,
    init: Annotated[bool, Option("--init", help="Write a plan for the networks in its folder.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Show the cells, their needs and where they can run.")] = False,
    ray: Annotated[
        str | None, Option(metavar="HOST:PORT", help="Run on the nodes of a Ray cluster.", show_default="this machine")
    ] = None,
    workers: Annotated[int, Option(min=1, max=64, help="Exports at once on a machine; timings run alone.")] = 1,
    shown: Shown,
) -> None:
    """Export, build and time every combination of a plan.

    Each cell's result is kept in the output folder: the same command
    continues after an interruption and computes nothing twice.

    Exit code 1 if a verdict failed, otherwise that of the first failed cell.
    """
    if init:
        _write_plan(plan, as_json=shown.as_json)
        return
    from attn_export.exporter.report.sweep import table
    from attn_export.exporter.report.write import INSTALL, can_draw, write_sweep
    from attn_export.exporter.sweep.cells import grid_of
    from attn_export.exporter.sweep.local import unoffered_here
    from attn_export.exporter.sweep.plan import read_plan
    from attn_export.exporter.workflows.sweep import SweepSettings, error_of, planned
    from attn_export.exporter.workflows.sweep import sweep as run_sweep

    # A cluster's nodes say themselves what they offer.
    grid = grid_of(read_plan(plan), plan.parent, load_options, None if ray else unoffered_here)
    settings = SweepSettings(out or plan.with_suffix(".sweep"), ray or "", workers)
    if dry_run:
        found = planned(grid, settings)
        print_result(found, table.plan_parts(found), as_json=shown.as_json)
        return
    with _watch(shown.quiet) as watch:
        report = run_sweep(grid, settings, watch)
    written = write_sweep(report, settings.out)
    parts = [*table.result_parts(report), *([] if can_draw() else [table.no_page(INSTALL)])]
    print_result(report, parts, as_json=shown.as_json, reports=written, error=error_of(report))


def load_options(entry: "Model") -> "LoadOptions":
    """How an entry of a plan is loaded, by the other commands' options. Raises UsageError: they can't be read."""
    parse_normalization(*(",".join(map(str, numbers)) if numbers else None for numbers in (entry.mean, entry.std)))
    return Loading(
        arch=entry.arch or None,
        inputs=[entry.input] if entry.input else None,
        code=entry.code or None,
        factory=entry.factory or None,
        kwargs=json.dumps(entry.kwargs) if entry.kwargs else None,
        weights=Path(entry.weights) if entry.weights else None,
        key=entry.checkpoint_key or None,
        trust=entry.trust,
    ).parse(Path(entry.path))


def _watch(quiet: bool) -> "Watch":
    from attn_export.exporter.report.sweep.live import SweepLines, SweepTable, Watch

    if quiet:
        return Watch()
    return SweepTable(sys.stderr) if sys.stderr.isatty() else SweepLines(sys.stderr)


def _write_plan(path: Path, *, as_json: bool) -> None:
    from attn_export.exporter.sweep.plan import plan_for
    from attn_export.exporter.system.files import write_text
    from attn_export.exporter.system.scratch import written_atomically

    if path.exists():
        raise OutputError(f"{path} is already there", hint="Name another file for the plan, or delete it.")
    text = plan_for(path.parent)
    with written_atomically(path) as temporary:
        write_text(temporary, text)
    if as_json:
        print_json({"plan": str(path)})
    else:
        stdout().print(str(path), style="bold", markup=False)
