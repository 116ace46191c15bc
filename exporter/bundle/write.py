"""Bundles, written: whole or not at all."""

import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.bundle.golden import GoldenVectors, save, to_document
from attn_export.exporter.bundle.members import ARRAYS, LARGEST, MANIFEST, README, is_plain
from attn_export.exporter.bundle.read import SCHEMA_VERSION
from attn_export.exporter.bundle.readme import readme
from attn_export.exporter.engine.precision_audit import SIDES
from attn_export.exporter.engine.targets import JETSON
from attn_export.exporter.errors import UnreadableGraphError, UsageError
from attn_export.exporter.records.document import plain
from attn_export.exporter.records.engine import BuildOptions, Profile
from attn_export.exporter.records.environment import describe
from attn_export.exporter.system.files import publish, scratch_folder, sha256_of, unwritable, write_text

if TYPE_CHECKING:
    import onnx_ir as ir

    from attn_export.exporter.engine.graph import GraphFacts

ENDING = ".bundle.zip"
# What the device needs: networks that are strongly typed, built through one interface.
TENSORRT = {"module": "tensorrt", "from": "10.3"}
# JetPack 5 is the last one for it and has TensorRT 8.5.
TOO_OLD = ("sm72",)


def bundle_name(stem: str, precision: Precision | None, architecture: str) -> str:
    """``model.fp16.sm87.bundle.zip``."""
    return f"{stem}{precision.suffix if precision else ''}.{architecture}{ENDING}"


def write_bundle(
    out: Path,
    source: Path,
    *,
    facts: "GraphFacts",
    profile: Profile,
    architecture: str,
    precision: Precision | None,
    options: BuildOptions,
    sample: GoldenVectors,
) -> Path:
    """Write a bundle.

    Args:
        out: the zip.
        source: the ONNX file, cleaned and typed.
        facts: what `engine.graph.read_graph` says of it.
        profile: of the engine.
        architecture: such as "sm87".
        precision: that the graph is typed in, for the records; None where nobody said.
        options: of the build. The timing cache stays here: it is of no use on another GPU.
        sample: what the engine will be judged by.

    Returns:
        ``out``.

    Raises:
        UsageError: no TensorRT 10 exists for the device.
        UnreadableGraphError: the ONNX file is damaged.
        OutputError: the bundle can't be written; nothing is left behind.
    """
    if architecture in TOO_OLD:
        raise UsageError(
            f"no bundle for {architecture} ({JETSON[architecture]}): its last TensorRT is 8.5, and bundles need "
            f"{TENSORRT['from']}",
            hint="Run the ONNX file there in ONNX Runtime.",
        )
    stem = out.name.removesuffix(ENDING).removesuffix(".zip")
    with scratch_folder(out.parent) as scratch:
        content = scratch / "content"
        try:
            content.mkdir()
            graph, opset = _graph_files(source, content)
            save(sample, content / ARRAYS)
        except OSError as error:
            raise unwritable(out, error) from error
        document = {
            "schema_version": SCHEMA_VERSION,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "name": stem,
            "architecture": architecture,
            "device": JETSON.get(architecture),
            "precision": str(precision) if precision else None,
            "onnx": graph.name,
            "opset": opset,
            "tensorrt": TENSORRT,
            "profile": {name: structs.asdict(shapes) for name, shapes in profile.items()},
            "options": {key: value for key, value in structs.asdict(options).items() if key != "timing_cache"},
            "graph": _facts_document(facts),
            "sample": to_document(sample),
            "made_with": plain(describe()),
        }
        write_text(content / README, readme(document, out.name))
        files = {path.name: _entry(path) for path in sorted(content.iterdir())}
        write_text(content / MANIFEST, json.dumps({**document, "files": files}, indent=1, allow_nan=False) + "\n")
        packed = scratch / out.name
        _pack(content, packed, out)
        publish(packed, out)
    return out


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _graph_files(source: Path, folder: Path) -> tuple[Path, int]:
    """The graph in a folder of its own, with all of its weights, and its opset.

    As it is, if it can be read there with the weights that it has in ``<source>.data``; else written anew.

    Raises:
        UnreadableGraphError: the file is damaged.
        OSError, OutputError: there is no room.
    """
    from attn_export.exporter.graph import write as onnx_file
    from attn_export.exporter.graph.read import files_of, read

    plain = is_plain(source.name) and source.name not in LARGEST
    path = folder / (source.name if plain else "model.onnx")
    if plain:
        weights = onnx_file.external_data_of(source)
        for file in filter(Path.is_file, (source, weights)):
            shutil.copyfile(file, folder / file.name)  # onnx-ir reads no weights through a hard link
        try:
            model = read(path)
        except UnreadableGraphError:  # damaged, or some of its weights are elsewhere
            for file in folder.iterdir():
                file.unlink()
        else:
            if (copied := folder / weights.name).resolve() not in files_of(model):
                copied.unlink(missing_ok=True)
            return path, _opset(model)
    model = read(source)
    onnx_file.save(model, path)
    return path, _opset(model)


def _opset(model: "ir.Model") -> int:
    return int(model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx", 0)))


def _facts_document(facts: "GraphFacts") -> dict[str, Any]:
    return {
        "inputs": _lists(facts.inputs),
        "outputs": _lists(facts.outputs),
        "types": {node: {side: sorted(getattr(t, side)) for side in SIDES} for node, t in facts.types.items()},
        "modules": dict(facts.modules),
        "weights": dict(facts.weights),
        "blocks": [asdict(block) for block in facts.blocks],
    }


def _lists(shapes: Mapping[str, tuple[Any, ...]]) -> dict[str, list[Any]]:
    return {name: list(dims) for name, dims in shapes.items()}


def _pack(folder: Path, path: Path, out: Path) -> None:
    """Zip a folder, ``bundle.json`` and the page first."""
    first = [MANIFEST, README]
    rest = sorted(file.name for file in folder.iterdir() if file.name not in first)
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for name in [*first, *rest]:
                packing = zipfile.ZIP_STORED if name == ARRAYS else zipfile.ZIP_DEFLATED
                archive.write(folder / name, name, packing)
    except (OSError, ValueError) as error:  # closing a zip that couldn't be written may give either
        raise unwritable(out, error if isinstance(error, OSError) else OSError(str(error))) from error
