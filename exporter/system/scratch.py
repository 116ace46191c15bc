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

LOCK = "lock"  # no result is called so: all have an ending
# Names the file in which a supervised process lists its folders, see `supervision`.
LEDGER = "ATTN_EXPORT_LEDGER"


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder inside ``parent``, which is created if missing; always removed at the end.

    Files are made in it and then renamed into ``parent``: on one file system a rename is all or nothing.

    Raises:
        OutputError: the folder can't be made or written.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(parent)
        folder, descriptor = _claimed(parent)
    except OSError as error:
        raise unwritable(parent, error) from error
    try:
        yield folder
    finally:
        try:
            _empty(folder)
        finally:
            os.close(descriptor)
            shutil.rmtree(folder, ignore_errors=True)


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


def clear_abandoned(parent: Path) -> None:
    """Clear the folders in ``parent`` whose owner has died."""
    with suppress(OSError):  # it can't be listed
        for folder in parent.glob(f"{SCRATCH}*"):
            clear(folder)


def clear(folder: Path) -> None:
    """Remove a scratch folder after undoing the publication in it; does nothing while its owner lives."""
    with suppress(OSError, msgspec.MsgspecError):
        try:
            descriptor = os.open(folder / LOCK, os.O_RDWR | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:
            folder.rmdir()  # its owner died before it had the lock, or after
            return
        try:
            if fcntl is None:
                (folder / LOCK).unlink()
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            roll_back(folder)
            _empty(folder)
            shutil.rmtree(folder)
        finally:
            os.close(descriptor)


def _claimed(parent: Path) -> tuple[Path, int]:
    """A new folder and the descriptor of its lock. Another process may clear it before it is locked: then the next."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=parent))
        with suppress(FileNotFoundError, BlockingIOError):
            return folder, _lock(folder)


def _lock(folder: Path) -> int:
    """Lock the folder for this process. Raises FileNotFoundError or BlockingIOError: another process is clearing it."""
    if ledger := os.environ.get(LEDGER):
        with suppress(OSError), Path(ledger).open("a", encoding="utf-8") as stream:
            stream.write(f"{folder.absolute()}\n")
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.stat(folder / LOCK)  # noqa: PTH116
    except (FileNotFoundError, BlockingIOError):
        os.close(descriptor)
        raise
    except OSError:  # file systems without locks
        pass
    return descriptor


def _empty(folder: Path) -> None:
    """Remove all but the lock, which goes last: what a kill leaves of a folder can be cleared."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink(missing_ok=True)
