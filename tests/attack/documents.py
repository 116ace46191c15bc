"""Hostile records, reports and bundles: a good one with a bad value at each place in turn."""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.attack.case import Case
from tests.attack.values import JSON, Place, places, replaced

MANIFEST = "bundle.json"


@dataclass(frozen=True)
class Good:
    """Files that the program wrote.

    Attributes:
        graph: ONNX.
        engine: TensorRT's.
        sidecar: of the engine.
        report: of an export.
        bundle: the files in it.
    """

    graph: bytes
    engine: bytes
    sidecar: dict[str, Any]
    report: dict[str, Any]
    bundle: Mapping[str, bytes]


def text(document: Any) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")


TEXTS = {
    "empty": b"",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "a number of 100,000 digits": b'{"schema_version": ' + b"9" * 100_000 + b"}",
    "noise": bytes(range(256)) * 16,
    "a list of millions": b'{"x": [' + b"[]," * 5_000_000 + b"[]]}",
}


def write_engine(good: Good, sidecar: bytes, folder: Path) -> None:
    (folder / "m.engine").write_bytes(good.engine)
    (folder / "m.engine.json").write_bytes(sidecar)


def write_reports(good: Good, other: bytes, folder: Path) -> None:
    (folder / "old.json").write_bytes(text(good.report))
    (folder / "new.json").write_bytes(other)


def archive(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return buffer.getvalue()


def listed(manifest: Any, files: Mapping[str, bytes]) -> bytes:
    """The manifest with right sizes and checksums."""
    entries = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in files.items() if n != MANIFEST}
    return text({**manifest, "files": entries})


def write_bundle(good: Good, files: Mapping[str, bytes], folder: Path) -> None:
    (folder / "b.bundle.zip").write_bytes(archive(files))
    (folder / "model.onnx").write_bytes(good.graph)


def write_changed(
    write: Callable[[Good, bytes, Path], None], good: Good, document: Any, place: Place, value: Any, folder: Path
) -> None:
    """Write a document with another value at a place."""
    write(good, text(replaced(document, place, value)), folder)


def write_manifest(good: Good, place: Place, value: Any, folder: Path) -> None:
    """Write the bundle with another value in its manifest; checksums are right unless they are what changes."""
    manifest = replaced(json.loads(good.bundle[MANIFEST]), place, value)
    content = text(manifest) if place[0] == "files" else listed(manifest, good.bundle)
    write_bundle(good, {**good.bundle, MANIFEST: content}, folder)


def pipe(name: str, folder: Path) -> None:
    os.mkfifo(folder / name)


INSPECT = ("inspect", "m.engine", "--quiet")
COMPARE = ("compare", "old.json", "new.json", "--quiet")
BUILD = ("build", "b.bundle.zip", "--gpu", "sm86", "--quiet")
VALIDATE = ("validate", "b.bundle.zip", "model.onnx", "--quiet")


def cases(good: Good) -> Iterator[Case]:
    """Every place with every value."""
    for name, content in TEXTS.items():
        yield Case("record", name, INSPECT, partial(write_engine, good, content), refused=True)
        yield Case("report", name, COMPARE, partial(write_reports, good, content), refused=True)
        files = {**good.bundle, MANIFEST: content}
        yield Case("bundle", name, BUILD, partial(write_bundle, good, files), refused=True)
    manifest = json.loads(good.bundle[MANIFEST])
    for value in JSON:
        for path in places(good.sidecar):
            make = partial(write_changed, write_engine, good, good.sidecar, path, value)
            yield Case("record", f"{path} {value!r:.30}", INSPECT, make)
        for path in places(good.report):
            make = partial(write_changed, write_reports, good, good.report, path, value)
            yield Case("report", f"{path} {value!r:.30}", COMPARE, make)
        for path in places(manifest):
            command = BUILD if len(path) % 2 else VALIDATE
            yield Case("bundle", f"{path} {value!r:.30}", command, partial(write_manifest, good, path, value))
    for name in ("../outside", "/tmp/outside", "a/b", "..\\outside", "golden.npz "):
        files = {**good.bundle, name: b"x"}
        yield Case("bundle", f"a file called {name}", BUILD, partial(write_bundle, good, files), refused=True)
    if hasattr(os, "mkfifo"):
        yield Case("record", "a pipe", ("inspect", "p.engine", "--quiet"), partial(pipe, "p.engine"), refused=True)
        yield Case(
            "report", "a pipe", ("compare", "p.json", "p.json", "--quiet"), partial(pipe, "p.json"), refused=True
        )
