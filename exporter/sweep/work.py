"""The worker's side of every backend: does one job in a folder, and says what came of it."""

import time
from datetime import datetime, timezone
from pathlib import Path

from attn_export.exporter.errors import AttnExportError, first_line
from attn_export.exporter.records.report import ErrorRecord
from attn_export.exporter.records.sweep import Figures, Outcome
from attn_export.exporter.sweep.job import Inputs, Job, Run

DEFECT, NO_ROOM = 70, 6


def outcome_of(job: Job, inputs: Inputs, folder: Path, run: Run, node: str) -> Outcome:
    """Do a job; every error becomes a part of the outcome."""
    started = now()
    figures, error = Figures(), None
    try:
        figures = run(job, inputs, folder)
    except AttnExportError as problem:
        error = ErrorRecord.of(problem)
    except MemoryError:
        error = ErrorRecord("there is not enough memory", "Take a smaller batch.", NO_ROOM)
    except Exception as problem:  # noqa: BLE001 (the other jobs go on)
        message = f"{type(problem).__name__}: {first_line(problem)}"
        error = ErrorRecord(message, "This is a defect of attn-export, please report it.", DEFECT)
    return Outcome(
        key=job.key,
        name=job.name,
        figures=figures,
        files=tuple(sorted(path.name for path in folder.iterdir() if path.is_file())),
        error=error,
        seconds=round(now() - started, 3),
        node=node,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def rest(seconds: float) -> None:
    """Wait where there is nothing else to wait for."""
    time.sleep(seconds)


def now() -> float:
    """Seconds on a clock that never goes back."""
    return time.monotonic()
