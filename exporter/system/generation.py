"""Publishes several files as one: either all old ones stay, or all new ones are there.

Before the first rename, every file that will be replaced gets a second name in the scratch folder, and a journal says
what belongs where. An error undoes the renames; after a kill, the next command that writes to the folder does
(`scratch.clear_abandoned`).
"""

import errno
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec

from attn_export.exporter.errors import OutputError
from attn_export.exporter.system.files import unwritable

JOURNAL = "journal"  # no result is called so: all have an ending
Move = tuple[Path | None, Path]
"""A finished file, or a folder for a path where nothing is; None to remove what is there; and the path."""

Identity = tuple[int, int, int]
"""What stays the same when a file is renamed: inode, size, and time of change in ns."""


class Entry(msgspec.Struct, frozen=True):
    """One move in the journal.

    Attributes:
        name: of the path, its bytes as Latin-1: they needn't be UTF-8.
        old: the second name, in the scratch folder, of the file that was there; None if there was none.
        new: the identity of the finished file; None if the path is only removed.
    """

    name: Annotated[str, msgspec.Meta(pattern="^[^/\\\\\0\u0100-\U0010ffff]+$")]
    old: Annotated[str, msgspec.Meta(pattern=r"^old-[0-9]+$")] | None
    new: Identity | None


def publish_together(moves: Sequence[Move], scratch: Path) -> None:
    """Give finished files their names.

    Args:
        moves: their files are in the scratch folder, and their paths beside it.
        scratch: the folder, which gets the journal.

    Raises:
        OutputError: one can't be published, or is a folder or device; all paths are as they were.
    """
    path = scratch
    try:
        for temporary, path in moves:
            _refuse_other_than_files(path)
            if temporary is not None:
                _sync(temporary, os.O_RDONLY if temporary.is_dir() else os.O_RDWR)
        path = scratch
        _write_journal(moves, scratch)
        for temporary, path in moves:
            path.unlink(missing_ok=True) if temporary is None else temporary.replace(path)
        (scratch / JOURNAL).unlink()
    except OSError as error:
        roll_back(scratch)
        raise unwritable(path, error) from error
    except BaseException:
        roll_back(scratch)
        raise
    for folder in {path.parent for _, path in moves}:
        with suppress(OSError):  # Windows and some file systems have no sync of folders
            _sync(folder, os.O_RDONLY)


def roll_back(scratch: Path) -> None:
    """Undo a publication that wasn't finished; does nothing where there is none.

    A path is only touched while it holds the file that the publication put there, so a later result stays. The journal
    may be anybody's: it can name files beside and in the scratch folder only.
    """
    journal = scratch / JOURNAL
    if not journal.exists():
        return
    for number, entry in enumerate(msgspec.json.decode(journal.read_bytes(), type=list[Entry])):
        path = scratch.parent / os.fsdecode(entry.name.encode("latin-1"))
        if _identity(path) != entry.new:
            continue
        with suppress(OSError):
            (scratch / entry.old).replace(path) if entry.old else path.replace(scratch / f"undone-{number}")
    journal.unlink()


def publish_folder(made: Path, folder: Path, scratch: Path) -> None:
    """Give a finished folder its name; one that is there, such as a mounted card, gets what is in it.

    Args:
        made: in the scratch folder.
        folder: beside the scratch folder, or around it if it is there.
        scratch: as for `publish_together`.

    Raises:
        OutputError: it can't be published; everything is as it was.
    """
    moves = [(made, folder)]
    if folder.exists():
        moves = [(path, folder / path.name) for path in sorted(made.iterdir())]
    publish_together(moves, scratch)


def _write_journal(moves: Sequence[Move], scratch: Path) -> None:
    entries = []
    for index, (temporary, path) in enumerate(moves):
        old = f"old-{index}" if _identity(path) else None
        if old:
            _second_name(path, scratch / old)
        entries.append(
            Entry(os.fsencode(path.name).decode("latin-1"), old, _identity(temporary) if temporary else None)
        )
    draft = scratch / f"{JOURNAL}.new"
    draft.write_bytes(msgspec.json.encode(entries))
    _sync(draft)
    draft.replace(scratch / JOURNAL)


def _second_name(path: Path, name: Path) -> None:
    try:
        os.link(path, name, follow_symlinks=False)
    except (OSError, NotImplementedError):  # file systems without links
        shutil.copy2(path, name, follow_symlinks=False)


def _identity(path: Path) -> Identity | None:
    """None if there is no file."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _refuse_other_than_files(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.exists() and not path.is_file():
        raise OutputError(
            f"{path} is there and is no file, so it isn't replaced", hint="Choose another name for the result."
        )


def _sync(path: Path, flags: int = os.O_RDWR) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
