"""The pictures in folders."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from attn_export.exporter.errors import InputError, first_line

ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def is_picture(path: Path) -> bool:
    """Whether a path is a file that is called like a picture."""
    return path.suffix.lower() in ENDINGS and path.is_file()


def check_there(path: Path) -> None:
    """Check that a file or folder can be looked at. Raises InputError: it can't."""
    hint = f"Expected are {', '.join(ENDINGS)}, folders of them, .npy or .npz."
    try:
        path.stat()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", hint=hint) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {first_line(error)}", hint=hint) from error


def pictures_of(given: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The pictures among files and in folders, and the files that are none.

    Files keep their order, those of folders are sorted by their paths; hidden files are neither.

    Raises:
        InputError: a file is missing or no picture, a folder can't be read, or there is no picture in it.
    """
    named, hint = ", ".join(map(str, given[:3])), f"Expected are {', '.join(ENDINGS)}, or folders of them."
    for path in given:
        check_there(path)
        if not path.is_dir() and not is_picture(path):
            raise InputError(f"{path} is no picture", hint=hint)
    files = [file for path in given for file in (sorted(_below(path)) if path.is_dir() else [path])]
    pictures, others = [file for file in files if is_picture(file)], [file for file in files if not is_picture(file)]
    if not pictures:
        found = f": it holds {', '.join(file.name for file in others[:3])}" if others else ""
        raise InputError(f"{named} holds no pictures{found}", hint=hint)
    return pictures, others


def folders_in(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted; without hidden ones. Raises InputError: it can't be read."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder} can't be read: {error.strerror}", hint="Is it readable?") from error


def _below(folder: Path) -> Iterator[Path]:
    """All files in a folder and its folders; links are followed once."""
    seen = set()

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} can't be read: {error.strerror}", hint="Is it readable?") from error

    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if (place := os.path.realpath(root)) in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in names if not name.startswith("."))
