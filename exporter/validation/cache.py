"""The reference of a network that was computed before, as a file. A wrong hit would make every verdict worthless, so
whatever the results depend on is in the key (`fingerprint`), and a file that isn't whole is computed anew.
"""

import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attn_export.exporter.artifacts import LoadedModel, Precision
from attn_export.exporter.network.images import Batch
from attn_export.exporter.network.run import Result
from attn_export.exporter.validation.compute_reference import compute_reference
from attn_export.exporter.validation.fingerprint import NotRepeatable, fingerprint
from attn_export.exporter.validation.reference import Reference

FOLDER = "ATTN_EXPORT_CACHE"
MOST_BYTES = 2**30
MOST_BYTES_OF_ONE = 2**28
SUFFIX = ".reference.npz"


@dataclass(frozen=True)
class Cache:
    """Files in a folder, the oldest of which go when there are too many.

    Attributes:
        folder: made when something is kept; need not be writable.
        most_bytes: of all files.
        most_bytes_of_one: larger references aren't kept.
    """

    folder: Path
    most_bytes: int = MOST_BYTES
    most_bytes_of_one: int = MOST_BYTES_OF_ONE

    def load(self, key: str, batches: Sequence[Batch]) -> Reference | None:
        """What was kept under this key; None where nothing was, or the file is damaged."""
        path = self._path(key)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                made = _reference(key, batches, arrays)
            path.touch()
        except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile):
            return None
        return made

    def store(self, key: str, made: Reference) -> None:
        """Keep a reference, where that is possible: a full disk or a folder of somebody else's is no error."""
        arrays = dict(_arrays(key, made))
        if sum(array.nbytes for array in arrays.values()) > self.most_bytes_of_one:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as stream:
                try:
                    np.savez(stream, allow_pickle=False, **arrays)
                    stream.close()
                    Path(stream.name).replace(self._path(key))
                finally:
                    stream.close()
                    Path(stream.name).unlink(missing_ok=True)
            self._forget_oldest()
        except OSError:
            return

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def _forget_oldest(self) -> None:
        files = [(path.stat(), path) for path in self.folder.glob(f"*{SUFFIX}")]
        files.sort(key=lambda entry: entry[0].st_mtime)
        size = sum(stat.st_size for stat, _ in files)
        for stat, path in files[:-1]:
            if size <= self.most_bytes:
                break
            path.unlink(missing_ok=True)
            size -= stat.st_size


def default_cache() -> Cache:
    """Where the system keeps such things, or in the folder that ``ATTN_EXPORT_CACHE`` names."""
    if named := os.environ.get(FOLDER):
        return Cache(Path(named))
    home = Path.home()
    places: Mapping[str, Path] = {
        "darwin": home / "Library" / "Caches",
        "win32": Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"),
    }
    usual = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return Cache(places.get(sys.platform, usual) / "attn-export")


def cached_reference(
    model: LoadedModel,
    batches: Sequence[Batch],
    advance: Callable[[], None] = lambda: None,
    precisions: Sequence[Precision] = (Precision.FP32,),
    cache: Cache | None = None,
) -> tuple[Reference, bool]:
    """The reference, from the cache where it is there.

    Args:
        model: its module is not changed.
        batches: (N, C, H, W) float32 each.
        advance: called after every batch that is computed.
        precisions: of the artifacts that will be judged.
        cache: None computes it anew, and keeps nothing.

    Returns:
        It, and whether it was there.

    Raises:
        CaptureError, InputError: as `oracle.reference` says.
    """
    key = None
    if cache is not None:
        try:
            key = fingerprint(model.module, batches, precisions)
        except (NotRepeatable, RuntimeError):  # the latter is told by `reference`, in words
            key = None
    if cache is not None and key is not None and (known := cache.load(key, batches)) is not None:
        return known, True
    made = compute_reference(model, batches, advance, precisions)
    if cache is not None and key is not None:
        cache.store(key, made)
    return made, False


def _arrays(key: str, made: Reference) -> Iterator[tuple[str, Any]]:
    results = {"exact": made.exact, **{str(precision): own for precision, own in made.baselines.items()}}
    about = {
        "key": key,
        "precisions": [str(precision) for precision in made.baselines],
        "paths": {name: [result.gate_paths for result in several] for name, several in results.items()},
        "outputs": len(made.exact[0].outputs),
    }
    yield "about", np.frombuffer(json.dumps(about).encode(), np.uint8)
    for name, several in results.items():
        for i, result in enumerate(several):
            for role, arrays in (("output", result.outputs), ("gate", result.gates)):
                yield from ((f"{name}/{i}/{role}/{j}", np.asarray(array)) for j, array in enumerate(arrays))


def _reference(key: str, batches: Sequence[Batch], arrays: Any) -> Reference:
    about = json.loads(bytes(arrays["about"]))
    if about["key"] != key:
        raise ValueError("the file was renamed")

    def results(name: str) -> tuple[Result, ...]:
        paths = about["paths"][name]
        if len(paths) != len(batches):
            raise ValueError("of other batches")
        return tuple(
            Result(
                tuple(arrays[f"{name}/{i}/output/{j}"] for j in range(about["outputs"])),
                tuple(arrays[f"{name}/{i}/gate/{j}"] for j in range(len(of_batch))),
                tuple(of_batch),
            )
            for i, of_batch in enumerate(paths)
        )

    baselines = {Precision(name): results(name) for name in about["precisions"]}
    return Reference(tuple(batches), results("exact"), baselines)
