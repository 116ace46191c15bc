"""Files and folders that jobs take: what counts of a folder, its digest, and its way to another machine."""

import hashlib
import zipfile
from io import BytesIO
from pathlib import Path

from attn_export.exporter.errors import InputError
from attn_export.exporter.images.folders import pictures_of
from attn_export.exporter.system.files import sha256_of

CODE, CALIBRATION = "code", "calibration"


def files_of(role: str, folder: Path) -> list[Path]:
    """A folder's Python sources or pictures, without hidden ones. Raises InputError: there is none."""
    if role == CALIBRATION:
        return pictures_of([folder])[0]
    found = sorted(path for path in folder.rglob("*.py") if not _hidden(path.relative_to(folder)))
    if not found:
        raise InputError(f"{folder} holds no Python sources", hint="code is a file, or the folder of a package.")
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def digest_of(role: str, path: Path) -> str:
    """The sha256 of a file; of sources and folders that of names and digests, since modules are imported by name.

    Raises:
        InputError: nothing in the folder counts.
    """
    if not path.is_dir() and role != CODE:
        return sha256_of(path)
    root, files = (path, files_of(role, path)) if path.is_dir() else (path.parent, [path])
    lines = (f"{sha256_of(file)} {file.relative_to(root).as_posix()}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def packed(role: str, path: Path) -> bytes:
    """The content of a file; of a folder a zip archive with fixed dates."""
    if not path.is_dir():
        return path.read_bytes()
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file in files_of(role, path):
            archive.writestr(zipfile.ZipInfo(file.relative_to(path).as_posix()), file.read_bytes())
    return content.getvalue()


def unpack(content: bytes, folder: Path) -> None:
    """Write a folder that was packed."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        archive.extractall(folder)
