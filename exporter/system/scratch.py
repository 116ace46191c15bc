"""Hidden folders in which results are made; what a killed process left of them, the next one clears.

A folder belongs to the process that holds the lock on the file ``lock`` in it. The system frees the lock however the
process ends, so an unlocked folder has no owner any more.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from attn_export.exporter.system.files import SCRATCH, publish, unwritable
from attn_export.exporter.system.generation import roll_back

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows, where a file that is open can't be deleted
    fcntl = None

LOCK = "lock"
# Names the file in which a supervised process lists its folders, see `supervision`.
LEDGER = "ATTN_EXPORT_LEDGER"


@contextmanager
def scratch_folder(parent: Path, prefix: str = SCRATCH) -> Iterator[Path]:
    """A hidden folder inside ``parent``, which is created if missing; always removed at the end.

    Files are made in it and then renamed into ``parent``: on one file system a rename is all or nothing.

    Raises:
        OutputError: the folder can't be made or written.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(parent, prefix)
        folder = tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise unwritable(parent, error) from error
    with folder as name:
        try:
            descriptor = _lock(Path(name))
        except OSError as error:
            raise unwritable(parent, error) from error
        try:
            yield Path(name)
        finally:
            os.close(descriptor)


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A temporary path that replaces ``path`` when the block ends without an error.

    Raises:
        OutputError: the folder or the file can't be written, or the disk is full.
    """
    with scratch_folder(path.parent) as folder:
        temporary = folder / path.name
        try:
            yield temporary
            publish(temporary, path)
        except OSError as error:
            raise unwritable(path, error) from error


def clear_abandoned(parent: Path, prefix: str = SCRATCH) -> None:
    """Clear the folders in ``parent`` whose owner has died."""
    with suppress(OSError):  # it can't be listed
        for folder in parent.glob(f"{prefix}*"):
            clear(folder)


def clear(folder: Path) -> None:
    """Remove a scratch folder after undoing the publication in it; does nothing while its owner lives."""
    with suppress(OSError, msgspec.MsgspecError):
        descriptor = os.open(folder / LOCK, os.O_RDWR | getattr(os, "O_NONBLOCK", 0))
        try:
            if fcntl is None:
                (folder / LOCK).unlink()
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            roll_back(folder)
            shutil.rmtree(folder)
        finally:
            os.close(descriptor)


def _lock(folder: Path) -> int:
    """Lock the folder for this process. The lock file gets its name when it is locked, so nobody sees it unlocked."""
    if ledger := os.environ.get(LEDGER):
        with suppress(OSError), Path(ledger).open("a", encoding="utf-8") as stream:
            stream.write(f"{folder.absolute()}\n")
    name = folder / (LOCK if fcntl is None else f"{LOCK}.new")
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
    if fcntl is not None:
        with suppress(OSError):  # file systems without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            name.rename(folder / LOCK)
    return descriptor
