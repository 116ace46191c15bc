"""A job on a node of a Ray cluster: its files are fetched once for each node, its results go back as bytes."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import Struct

from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.records.report import ErrorRecord
from attn_export.exporter.records.sweep import Figures, Outcome
from attn_export.exporter.sweep.inputs import unpack
from attn_export.exporter.sweep.job import Job, Run
from attn_export.exporter.sweep.work import outcome_of
from attn_export.exporter.system.cache_folder import cache_folder
from attn_export.exporter.system.files import sha256_of
from attn_export.exporter.system.packages import installed
from attn_export.exporter.system.scratch import written_atomically

OWN = "attn-export"
MAX_BYTES = 20 * 2**30  # of files kept on a node; those used longest ago go first


class Shipped(Struct, frozen=True):
    """A file on its way: its name, its digest, the reference to its bytes in Ray's object store.

    One that is a ``folder`` is its archive, and unpacked for each job.
    """

    name: str
    sha256: str
    reference: Any
    folder: bool = False


Shipment = Mapping[str, tuple[Shipped, ...]]
Get = Callable[[Any], bytes]
Packed = tuple[Outcome, list[tuple[str, bytes]]]


def compute(job: Job, shipment: Shipment, run: Run, node: str, version: str | None, get: Get) -> Packed:
    """Do a job on this node.

    ``version`` is attn-export's where the sweep was started; ``get`` fetches bytes from Ray's object store.

    Returns:
        The outcome, and its files with their content.
    """
    if (own := installed(OWN)) != version:
        message = f"{node} has {OWN} {own}, and the sweep is of {version}"
        error = ErrorRecord(message, "Install the same on every node.", RuntimeUnavailableError.exit_code)
        return Outcome(key=job.key, name=job.name, figures=Figures(), error=error, node=node), []
    with TemporaryDirectory() as name, TemporaryDirectory() as unpacked:
        inputs = {
            role: tuple(_opened(fetched(file, get), file, Path(unpacked) / role) for file in files)
            for role, files in shipment.items()
        }
        outcome = outcome_of(job, inputs, Path(name), run, node)
        return outcome, [(file, (Path(name) / file).read_bytes()) for file in outcome.files]


def _opened(path: Path, file: Shipped, place: Path) -> Path:
    """The file, or the folder in it: under ``place`` with its own name, since a package is imported by that."""
    if not file.folder:
        return path
    unpack(path.read_bytes(), place / path.stem)
    return place / path.stem


def fetched(file: Shipped, get: Get) -> Path:
    """The path of a file on this node, which is fetched if it isn't there or isn't whole."""
    root = cache_folder() / "sweep"
    path = root / file.sha256 / file.name
    if not (path.is_file() and sha256_of(path) == file.sha256):
        content = get(file.reference)
        _make_room(root, len(content))
        with written_atomically(path) as temporary:
            temporary.write_bytes(content)
    path.parent.touch()
    return path


def _make_room(root: Path, needed: int) -> None:
    folders = sorted(root.glob("*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
    total = needed
    for folder in folders:
        total += sum(path.stat().st_size for path in folder.iterdir())
        if total > MAX_BYTES:
            shutil.rmtree(folder, ignore_errors=True)


def digest(content: bytes) -> str:
    """sha256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()
