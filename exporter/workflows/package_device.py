"""Writes a device folder: engines for several GPUs, the ONNX file behind them, and what a caller has to know."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from msgspec import structs

from attn_export.exporter.artifacts import Axis
from attn_export.exporter.bundle.read import is_bundle, read_bundle
from attn_export.exporter.deployment.bom import BOM, bom_of
from attn_export.exporter.deployment.manifest import (
    MANIFEST,
    DeviceInput,
    DeviceManifest,
    MeasuredLatency,
    PackagedFile,
)
from attn_export.exporter.errors import InputError, OutputError, UsageError
from attn_export.exporter.graph.write import copy
from attn_export.exporter.network.axes import axis_name
from attn_export.exporter.records import environment
from attn_export.exporter.records.artifact import Artifact, Tensor
from attn_export.exporter.records.document import encode
from attn_export.exporter.records.report import Report
from attn_export.exporter.runtimes import IN_EVALUATOR
from attn_export.exporter.system.files import SCRATCH, check_portable, sha256_of, unwritable, write_text
from attn_export.exporter.system.generation import publish_folder
from attn_export.exporter.system.scratch import clear_abandoned, scratch_folder
from attn_export.exporter.validation.artifact import numpy_name, read_artifact
from attn_export.exporter.workflows.artifact_facts import class_names_of, facts_of, is_measured, timings_of
from attn_export.exporter.workflows.verify import sign_folder

# The parts of TensorRT in an engine are under NVIDIA's license: https://docs.nvidia.com/deeplearning/tensorrt/latest/reference/sla.html
TENSORRT_LICENSE = "LicenseRef-NVIDIA-TensorRT"


@dataclass(frozen=True)
class Contents:
    """What goes into a device folder. ``onnx``: the files; the first is the one to fall back to."""

    onnx: Sequence[Artifact]
    engines: Sequence[Artifact]
    bundles: Sequence[Path]


def write_device_folder(
    paths: Sequence[Path],
    folder: Path,
    *,
    licenses: Sequence[str] = (),
    labels: tuple[str, ...] | None = None,
    report: Report | None = None,
    bom: bool = False,
    key: Path | None = None,
) -> Path:
    """Write ONNX files, engines with their sidecars and deployment bundles into a device folder.

    Licenses are SPDX expressions; without labels the classes are called as in the ONNX file; a private key signs it.

    Raises:
        UsageError: there is no ONNX file.
        InputError: an artifact can't be read, or an engine is of another ONNX file.
        OutputError: the folder holds something, or can't be written; a file's name isn't one on every system.
    """
    contents = _read(paths)
    check_device_folder(folder)
    with scratch_folder(device_scratch(folder)) as scratch:
        made = scratch / "content"
        try:
            made.mkdir()
            for path, name in _files(contents):
                if path.suffix == ".onnx":
                    copy(path, made / name)
                else:
                    shutil.copyfile(path, made / name)
            manifest = _manifest(contents, made, tuple(licenses), labels, report)
            if bom:
                write_text(made / BOM, bom_of(manifest))
                listed = PackagedFile((made / BOM).stat().st_size, sha256_of(made / BOM))
                manifest = structs.replace(manifest, files={**manifest.files, BOM: listed})
            write_text(made / MANIFEST, encode(manifest))
        except OSError as error:
            raise unwritable(folder, error) from error
        if key is not None:
            sign_folder(made, key)
        publish_folder(made, folder, scratch)
    return folder


def check_device_folder(folder: Path) -> None:
    """Refuse a folder that holds something, but for what a killed command left. Raises OutputError: it is no such."""
    clear_abandoned(folder)
    if folder.exists() and not (folder.is_dir() and all(entry.name.startswith(SCRATCH) for entry in folder.iterdir())):
        raise OutputError(f"{folder} is there and isn't empty", hint="Name a new folder.")


def device_scratch(folder: Path) -> Path:
    """Where a folder is made: in itself if it is there, since it may be a file system of its own."""
    return folder if folder.is_dir() else folder.parent


def _read(paths: Sequence[Path]) -> Contents:
    bundles = [path for path in paths if is_bundle(path)]
    for path in bundles:
        read_bundle(path)
    artifacts = [read_artifact(path) for path in paths if path not in bundles]
    onnx = [artifact for artifact in artifacts if artifact.sidecar is None]
    if not onnx:
        raise UsageError(
            "a device folder has an ONNX file, for devices that none of the engines is for",
            hint="Name it first: attn-export package model.onnx model.engine --device DIR",
        )
    engines = [artifact for artifact in artifacts if artifact.sidecar is not None]
    digests = {sha256_of(artifact.path) for artifact in onnx}
    for engine in engines:
        assert engine.sidecar is not None
        if engine.sidecar.onnx.sha256 not in digests:
            raise InputError(
                f"{engine.path} was built from another file ({engine.sidecar.onnx.path}) than those that were named",
                hint="Name its ONNX file too, or build the engine again.",
            )
    names = [path.name for path in paths]
    for name in names:
        check_portable(name)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two files are called {twice}", hint="Give one of them another name.")
    onnx.sort(key=lambda artifact: artifact.precision in IN_EVALUATOR)  # the first is what runs without an engine
    return Contents(onnx, engines, bundles)


def _files(contents: Contents) -> Iterator[tuple[Path, str]]:
    """Every file and its name in the folder, except the weights of ONNX files, which follow these."""
    for artifact in (*contents.onnx, *contents.engines):
        yield artifact.path, artifact.path.name
        if artifact.sidecar is not None:
            yield artifact.path.with_name(f"{artifact.path.name}.json"), f"{artifact.path.name}.json"
    for path in contents.bundles:
        yield path, path.name


def _manifest(
    contents: Contents, made: Path, licenses: tuple[str, ...], labels: tuple[str, ...] | None, report: Report | None
) -> DeviceManifest:
    first = contents.onnx[0]
    facts = facts_of(first)
    engines = {engine.path.name for engine in contents.engines}

    def packaged(path: Path) -> PackagedFile:
        own = (*licenses, TENSORRT_LICENSE) if path.name in engines else licenses
        return PackagedFile(path.stat().st_size, sha256_of(path), own)

    return DeviceManifest(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        name=first.path.stem,
        onnx=first.path.name,
        engines=tuple(engine.path.name for engine in contents.engines),
        bundles=tuple(path.name for path in contents.bundles),
        inputs=tuple(_input(tensor, contents) for tensor in first.inputs),
        outputs=tuple(tensor.name for tensor in first.outputs),
        source_sha256=facts.source_sha256,
        class_names=class_names_of(first, facts, labels),
        normalization=facts.normalization,
        preprocessing=facts.preprocessing,
        postprocessing=facts.postprocessing,
        verdict=facts.verdict,
        latencies=tuple(_latencies(contents, report)),
        made_with=environment.describe(),
        files={path.name: packaged(path) for path in sorted(made.iterdir())},
    )


def _input(tensor: Tensor, contents: Contents) -> DeviceInput:
    """An input with the sizes of a first inference: those of the file, or of an engine's profile."""
    profiles = [engine.profile[tensor.name].opt for engine in contents.engines if engine.profile is not None]
    dims = tensor.dims or (None,)
    usual = profiles[0] if profiles else (1, *dims[1:])
    shape = tuple(size if isinstance(size, int) else usual[i] for i, size in enumerate(dims))
    if not all(isinstance(size, int) for size in shape):
        raise InputError(
            f"nothing says how large {tensor} is",
            hint="Package an engine too, whose profile says it, or export with fixed height and width.",
        )
    axes = (Axis(axis_name(len(dims), i), i) for i, size in enumerate(dims) if not isinstance(size, int))
    sizes = tuple(size for size in shape if isinstance(size, int))
    return DeviceInput(tensor.name, numpy_name(tensor.dtype), sizes, tuple(axes))


def _latencies(contents: Contents, report: Report | None) -> Iterator[MeasuredLatency]:
    if report is None:
        return
    artifacts = [one for one in (*contents.onnx, *contents.engines) if is_measured(one, report)]
    for artifact in artifacts or contents.onnx[:1]:  # of which none of the latencies are
        for timing in timings_of(artifact, report):
            yield MeasuredLatency(
                artifact.path.name,
                timing.runtime,
                timing.provenance,
                timing.device,
                timing.batch,
                timing.median_ms,
                timing.median_interval_ms,
            )
