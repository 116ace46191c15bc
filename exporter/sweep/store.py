"""The output folder of a sweep: a folder for each outcome, named by the digest of everything that decides it.

An outcome's folder is made elsewhere, synced and renamed into place, so it is there as a whole or not at all.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct, structs

from attn_export.exporter.errors import AttnExportError, OutputError, UsageError
from attn_export.exporter.records.document import SCHEMA_VERSION, DocumentError, decode, encode
from attn_export.exporter.records.report import ErrorRecord
from attn_export.exporter.records.sweep import Outcome
from attn_export.exporter.system.files import SCRATCH, publish, read_whole, unwritable, write_text
from attn_export.exporter.system.scratch import scratch_folder

INDEX, RECORD, CELLS, LOCK = "sweep.json", "record.json", "cells", ".lock"
MOST_BYTES = 2**26
KEY_LETTERS = 16  # of the digest in the name of a folder
# Failures that say something about the job; the others are tried again by the next command.
KEPT_CODES = (1, 2, 3, 4)


class Index(Struct, frozen=True):
    """What the folder is for: the names of the cells of the last plan."""

    cells: tuple[str, ...]
    schema_version: int = SCHEMA_VERSION


class Store:
    """Outcomes on disk, made in ``work``, a folder on the same file system."""

    def __init__(self, root: Path, work: Path | None = None) -> None:
        self.root, self.work = root, work or root

    def folder(self, key: str) -> Path:
        """The folder of an outcome."""
        return self.root / CELLS / key[:KEY_LETTERS]

    def get(self, key: str) -> Outcome | None:
        """An outcome that is there with all its files; None otherwise."""
        folder = self.folder(key)
        try:
            outcome = decode(read_whole(folder / RECORD, MOST_BYTES), Outcome)
        except (OSError, DocumentError):
            return None
        plain = all(Path(name).name == name for name in outcome.files)
        whole = outcome.key == key and plain and all((folder / name).is_file() for name in outcome.files)
        return outcome if whole else None

    def publish(self, outcome: Outcome, folder: Path | None) -> Outcome:
        """Keep an outcome with its files; one that can't be written is a failure of this one job.

        A failure that says nothing about the job isn't kept. ``folder`` holds the files, on the same file system.
        """
        try:
            if outcome.error is None or outcome.error.exit_code in KEPT_CODES:
                self._publish(outcome, folder)
        except OSError as error:
            return _unwritten(outcome, unwritable(self.folder(outcome.key), error))
        except OutputError as error:
            return _unwritten(outcome, error)
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
        return outcome

    def _publish(self, outcome: Outcome, folder: Path | None) -> None:
        place = self.folder(outcome.key)
        made = folder or self.work / outcome.key[:KEY_LETTERS]
        made.mkdir(exist_ok=True)
        write_text(made / RECORD, encode(outcome))
        for name in (RECORD, *outcome.files):
            _sync(made / name)
        _sync(made)
        if place.exists():  # damaged, since it wasn't taken
            shutil.rmtree(place)
        made.rename(place)
        _sync(place.parent)


def _unwritten(outcome: Outcome, error: AttnExportError) -> Outcome:
    return structs.replace(outcome, error=ErrorRecord.of(error), files=())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def opened(root: Path, cells: Sequence[str]) -> Iterator[Store]:
    """The output folder, for this process alone.

    Raises:
        UsageError: it holds something else, the results of another plan, or another sweep is at work there.
        OutputError: it can't be made or written.
    """
    check_folder(root, cells)
    try:
        (root / CELLS).mkdir(parents=True, exist_ok=True)
        lock = (root / LOCK).open("w")
    except OSError as error:
        raise unwritable(root, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"another sweep is at work in {root}", hint="Wait for it, or name another folder with -o."
            ) from error
        with scratch_folder(root) as work:
            write_text(work / INDEX, encode(Index(tuple(cells))))
            publish(work / INDEX, root / INDEX)
            yield Store(root, work)


def check_folder(root: Path, cells: Sequence[str]) -> None:
    """Refuse a folder that holds other things than results of this plan or an earlier form of it. Raises UsageError."""
    if not root.exists():
        return
    if not root.is_dir():
        raise UsageError(f"{root} is no folder", hint="Name a folder for the results with -o.")
    index = None
    with suppress(OSError, DocumentError):
        index = decode(read_whole(root / INDEX, MOST_BYTES), Index)
    if index is None:
        if any(entry.name not in (CELLS, LOCK) and not entry.name.startswith(SCRATCH) for entry in root.iterdir()):
            raise UsageError(
                f"{root} holds something else than results of a sweep", hint="Name another folder with -o."
            )
    elif index.cells and not set(index.cells) & set(cells):
        raise UsageError(
            f"{root} holds the results of another plan: none of its {len(index.cells)} cells is in this one",
            hint=f"It has {index.cells[0]}, for example. Name another folder with -o.",
        )
