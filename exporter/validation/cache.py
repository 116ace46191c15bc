"""The reference outputs of a network as files.

The key is `fingerprint`, a hash of everything that the results depend on. A damaged file counts as missing. Together
the files hold at most 1 GiB; those used longest ago are deleted first.
"""

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from attn_export.exporter.artifacts import LoadedModel, Precision
from attn_export.exporter.errors import OutputError
from attn_export.exporter.network.batches import Batch
from attn_export.exporter.network.run import Result
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.system.cache_folder import MAX_BYTES, cache_folder
from attn_export.exporter.system.files import size_of
from attn_export.exporter.system.scratch import scratch_folder
from attn_export.exporter.validation.compute_reference import compute_reference
from attn_export.exporter.validation.fingerprint import fingerprint
from attn_export.exporter.validation.reference import Reference

SUFFIX = ".reference.npz"


@dataclass(frozen=True)
class Cache:
    """A folder of reference outputs.

    Attributes:
        folder: created by the first `store`; need not be writable. See `cache_folder`.
        max_bytes: of all files.
        max_bytes_of_one: larger references aren't stored.
    """

    folder: Path = field(default_factory=cache_folder)
    max_bytes: int = MAX_BYTES
    max_bytes_of_one: int = 2**28

    def load(self, key: str, batches: Sequence[Batch]) -> Reference | None:
        """The reference of a key; None where there is none, or its file is damaged."""
        path = self.folder / f"{key}{SUFFIX}"
        try:
            size_of(path)  # a pipe would be waited for
            with np.load(path, allow_pickle=False) as archive:
                reference = _read(archive, key, batches)
            path.touch()
        except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile):
            return None
        return reference

    def store(self, key: str, reference: Reference) -> None:
        """Store a reference where that is possible: a full disk or a foreign folder is no error."""
        arrays = _arrays(key, reference)
        if sum(array.nbytes for array in arrays.values()) > self.max_bytes_of_one:
            return
        try:
            with scratch_folder(self.folder) as scratch:
                made = scratch / f"{key}{SUFFIX}"
                np.savez(made, allow_pickle=False, **arrays)
                made.replace(self.folder / made.name)
            self._delete_oldest()
        except (OSError, OutputError):
            return

    def _delete_oldest(self) -> None:
        files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self.folder.glob(f"*{SUFFIX}"))
        excess = sum(size for _, size, _ in files) - self.max_bytes
        for _, size, path in files[:-1]:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size


def cached_reference(
    model: LoadedModel,
    batches: Sequence[Batch],
    advance: Callable[[], None] = lambda: None,
    precisions: Sequence[Precision] = (Precision.FP32,),
    cache: Cache | None = None,
    least: int = 1,
) -> tuple[Reference, bool]:
    """The reference, and whether it was in the cache; without a cache it is computed and nothing stored.

    Raises:
        CaptureError, InputError: see `compute_reference`.
    """
    try:
        key = fingerprint(model.module, batches, precisions, least) if cache is not None else None
    except Exception:  # noqa: BLE001 (NotRepeatable, or whatever the network raises: `compute_reference` explains it)
        key = None
    if cache is None or key is None:
        return compute_reference(model, batches, advance, precisions, least), False
    if (known := cache.load(key, batches)) is not None:
        return known, True
    reference = compute_reference(model, batches, advance, precisions, least)
    cache.store(key, reference)
    return reference, False


def _arrays(key: str, reference: Reference) -> dict[str, Array]:
    """All arrays in order, and "about": the key, and of every result the number of outputs and the gates' paths."""
    results = {"exact": reference.exact, **{str(p): several for p, several in reference.baselines.items()}}
    shape = {name: [(len(result.outputs), result.gate_paths) for result in r] for name, r in results.items()}
    about = np.frombuffer(json.dumps({"key": key, "results": shape}).encode(), np.uint8)
    arrays = [array for several in results.values() for r in several for array in (*r.outputs, *r.gates)]
    return {"about": about, **{str(i): np.asarray(array) for i, array in enumerate(arrays)}}


def _read(archive: Any, key: str, batches: Sequence[Batch]) -> Reference:
    about = json.loads(bytes(archive["about"]))
    if about["key"] != key:
        raise ValueError("the file was renamed")
    arrays = (archive[str(i)] for i in count())
    results = {
        name: tuple(
            Result(tuple(islice(arrays, outputs)), tuple(islice(arrays, len(paths))), tuple(paths))
            for outputs, paths in several
        )
        for name, several in about["results"].items()
    }
    return Reference(
        tuple(batches), results.pop("exact"), {Precision(name): several for name, several in results.items()}
    )
