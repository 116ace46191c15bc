"""Writing deployment bundles."""

import zipfile
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from attn_export.exporter.artifacts import Precision
from attn_export.exporter.bundle.golden import GoldenVectors, describe, save
from attn_export.exporter.bundle.manifest import GOLDEN, MANIFEST, README, Manifest, Member, is_onnx_name
from attn_export.exporter.bundle.readme import readme
from attn_export.exporter.engine.targets import JETSON
from attn_export.exporter.errors import UsageError
from attn_export.exporter.records import environment
from attn_export.exporter.records.document import encode
from attn_export.exporter.records.engine import BuildOptions, Profile
from attn_export.exporter.system.files import check_portable, publish, sha256_of, unwritable, write_text
from attn_export.exporter.system.scratch import scratch_folder

if TYPE_CHECKING:
    from attn_export.exporter.engine.graph import GraphFacts

ENDING = ".bundle.zip"
TENSORRT = "10.3"  # the first with all that strongly typed networks need
UNSUPPORTED = ("sm72",)  # JetPack 5, the last for it, has TensorRT 8.5


def write_bundle(
    out: Path,
    source: Path,
    *,
    facts: "GraphFacts",
    profile: Profile,
    architecture: str,
    precision: Precision | None,
    options: BuildOptions,
    golden: GoldenVectors,
) -> Path:
    """Write a bundle.

    The timing cache is left out of the options: it is of no use on another GPU.

    Returns:
        ``out``.

    Raises:
        UsageError: the device has no TensorRT 10.
        UnreadableGraphError: the ONNX file is damaged.
        OutputError: the bundle can't be written, or have its name elsewhere; no file is left behind.
    """
    from attn_export.exporter.graph.write import copy

    if architecture in UNSUPPORTED:
        raise UsageError(
            f"there are no bundles for {architecture} ({JETSON[architecture]}): its last TensorRT is 8.5, and bundles "
            f"need {TENSORRT}",
            hint="Run the ONNX file in ONNX Runtime on that device.",
        )
    check_portable(out.name)
    with scratch_folder(out.parent) as scratch:
        content = scratch / "content"
        try:
            content.mkdir()
            graph = content / (source.name if is_onnx_name(source.name) else "model.onnx")
            opset = copy(source, graph).graph.opset_imports.get("", 0)
            save(golden, content / GOLDEN)
            (content / README).touch()
            manifest = Manifest(
                created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                name=out.name.removesuffix(ENDING).removesuffix(".zip"),
                architecture=architecture,
                device=JETSON.get(architecture),
                precision=precision,
                opset=opset,
                tensorrt=TENSORRT,
                graph=replace(facts, path=Path(graph.name), weight_files=()),
                profile=profile,
                options=structs.replace(options, timing_cache=None),
                golden=describe(golden),
                made_with=environment.describe(),
                files=_list_files(content),
            )
            write_text(content / README, readme(manifest, out.name))
            write_text(content / MANIFEST, encode(structs.replace(manifest, files=_list_files(content))))
            _pack(content, scratch / out.name)
        except OSError as error:
            raise unwritable(out, error) from error
        publish(scratch / out.name, out)
    return out


def _list_files(folder: Path) -> dict[str, Member]:
    return {file.name: Member(file.stat().st_size, sha256_of(file)) for file in sorted(folder.iterdir())}


def _pack(folder: Path, path: Path) -> None:
    """Zip a folder, manifest and README first."""
    first = [MANIFEST, README]
    rest = sorted(file.name for file in folder.iterdir() if file.name not in first)
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for name in [*first, *rest]:
                archive.write(folder / name, name, zipfile.ZIP_STORED if name == GOLDEN else zipfile.ZIP_DEFLATED)
    except ValueError as error:  # closing a zip that couldn't be written
        raise OSError(str(error)) from error
