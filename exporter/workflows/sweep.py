"""A sweep: the cells of a plan, computed where they can be, kept, and put into tables."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from attn_export.exporter.errors import RuntimeUnavailableError, SweepError
from attn_export.exporter.records.report import ErrorRecord
from attn_export.exporter.records.sweep import Cell, Outcome, PlannedCell, PlannedSweep, Row, SweepReport, merged
from attn_export.exporter.report.findings.words import counted
from attn_export.exporter.report.sweep.live import Watch
from attn_export.exporter.sweep.cells import Grid
from attn_export.exporter.sweep.job import Backend, Inputs, Job, Run
from attn_export.exporter.sweep.local import LocalBackend
from attn_export.exporter.sweep.schedule import Scheduler
from attn_export.exporter.sweep.store import Store, check_folder, opened
from attn_export.exporter.workflows.sweep_job import run_job

DISAGREES = 1


@dataclass(frozen=True)
class SweepSettings:
    """Where cells are kept, the address of a Ray cluster if any, and how many exports run at once on a machine."""

    out: Path
    ray: str = ""
    workers: int = 1


def planned(grid: Grid, settings: SweepSettings) -> PlannedSweep:
    """What would be computed, and where; computes nothing.

    Raises:
        UsageError: the output folder holds something else.
        RuntimeUnavailableError: nobody offers a target, or the cluster can't be reached.
    """
    check_folder(settings.out, _names(grid))
    store = Store(settings.out)
    with _backend(grid, settings, store.work, run_job) as backend:
        nodes = backend.nodes()
        cells = [
            PlannedCell(
                cell,
                key,
                tuple(job.name for job in grid.chain(key)[:-1]),
                tuple(node.name for node in nodes if grid.jobs[key].target in node.targets),
                store.get(key) is not None,
            )
            for cell, key in grid.cells.items()
        ]
    return PlannedSweep(out=str(settings.out), cells=tuple(cells), left_out=dict(grid.left_out))


def sweep(grid: Grid, settings: SweepSettings, watch: Watch, run: Run = run_job) -> SweepReport:
    """Compute what isn't there yet, and return all of it; workers import ``run`` by its name.

    Raises:
        UsageError: the output folder holds something else, or another sweep is at work there.
        RuntimeUnavailableError: nobody offers a target, or the cluster can't be reached.
        OutputError: the output folder can't be written.
    """
    with opened(settings.out, _names(grid)) as store:
        kept = {key: found for key in grid.jobs if (found := store.get(key)) is not None}
        with _backend(grid, settings, store.work, run) as backend:
            started = backend.now()
            scheduler = Scheduler(
                grid.jobs, kept, backend=backend, keeper=store, inputs=_inputs(grid, store), watch=watch
            )
            outcomes = scheduler.run()
            seconds = backend.now() - started
    rows = tuple(_row(cell, [outcomes[job.key] for job in grid.chain(key)], store) for cell, key in grid.cells.items())
    return SweepReport(
        out=str(settings.out),
        computed=len(grid.jobs) - len(kept),
        reused=len(kept),
        work_seconds=round(sum(outcome.seconds for key, outcome in outcomes.items() if key not in kept), 3),
        seconds=round(seconds, 3),
        left_out=dict(grid.left_out),
        rows=rows,
        error=_error_record(rows),
    )


def error_of(report: SweepReport) -> SweepError | None:
    """The error of a sweep with cells that aren't good."""
    error = report.error
    return SweepError(error.message, exit_code=error.exit_code, hint=error.hint) if error else None


def _names(grid: Grid) -> list[str]:
    return [str(cell) for cell in grid.cells]


@contextmanager
def _backend(grid: Grid, settings: SweepSettings, scratch: Path, run: Run) -> Iterator[Backend]:
    """The backend, which ends with the block."""
    targets = frozenset(job.target for job in grid.jobs.values())
    backend: Backend
    if settings.ray:
        from attn_export.exporter.sweep.ray_backend import RayBackend

        backend = RayBackend(run, settings.ray, scratch, settings.workers)
    else:
        backend = LocalBackend(run, scratch, targets, settings.workers)
    try:
        _refuse_unoffered(backend, targets)
        yield backend
    finally:
        backend.stop()


def _refuse_unoffered(backend: Backend, targets: frozenset[str]) -> None:
    offered = frozenset(target for node in backend.nodes() for target in node.targets)
    if missing := sorted(targets - offered):
        raise RuntimeUnavailableError(
            f"no node offers {', '.join(missing)}; offered are {', '.join(sorted(offered)) or 'none'}",
            hint=f"A node offers it as a resource: ray start --resources='{{\"{missing[0]}\": 1}}'",
        )


def _inputs(grid: Grid, store: Store) -> Callable[[Job], Inputs]:
    """The files of a job: those of the plan, and those of the outcomes that it needs."""

    def inputs(job: Job) -> Inputs:
        found = {role: _with_data(grid.files[digest]) for role, digest in job.files.items()}
        for role, key in job.needs.items():
            (file,) = store.folder(key).glob("*.onnx")
            found[role] = _with_data(file)
        return found

    return inputs


def _with_data(path: Path) -> tuple[Path, ...]:
    from attn_export.exporter.graph.write import external_data_of

    data = external_data_of(path)
    return (path, data) if path.suffix == ".onnx" and data.exists() else (path,)


def _row(cell: Cell, outcomes: list[Outcome], store: Store) -> Row:
    """A cell's row: the figures of its file and its own; the file's size gives way to the engine's."""
    own = outcomes[-1]
    error = own.error
    reports = [
        (store.folder(each.key) / name).relative_to(store.root).as_posix()
        for each in outcomes
        for name in each.files
        if name.endswith(".report.json")
    ]
    return Row(
        **merged([each.figures for each in outcomes]),  # type: ignore[arg-type]
        model=cell.model,
        precision=cell.precision,
        target=cell.target,
        batch=cell.batch,
        runtime=cell.runtime,
        status="good" if error is None else "bad" if error.exit_code == DISAGREES else "failed",
        exit_code=error.exit_code if error else 0,
        message=error.message if error else "",
        seconds=own.seconds,
        node=own.node,
        report=reports[-1] if reports else "",
    )


def _error_record(rows: tuple[Row, ...]) -> ErrorRecord | None:
    wrong = sorted((row for row in rows if row.status != "good"), key=lambda row: row.status)
    if not wrong:
        return None
    bad = sum(row.status == "bad" for row in wrong)
    verb = "disagrees" if bad == 1 else "disagree"
    parts = [f"{count} {words}" for count, words in ((bad, verb), (len(wrong) - bad, "failed")) if count]
    first = f"the first is {wrong[0].cell}: {wrong[0].message}"
    message = f"of {counted(len(rows), 'cell')} {' and '.join(parts)}; {first}"
    return ErrorRecord(message, "The same command tries those again that may succeed.", wrong[0].exit_code)
