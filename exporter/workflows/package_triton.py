"""Writes a model repository for Triton Inference Server."""

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attn_export.exporter.artifacts import Dim, fixed
from attn_export.exporter.deployment.triton import LABELS, ONNX, PLAN, Served, config_of
from attn_export.exporter.errors import InputError, OutputError, UsageError
from attn_export.exporter.graph.write import copy
from attn_export.exporter.records.artifact import Artifact, Tensor
from attn_export.exporter.records.report import Report
from attn_export.exporter.runtimes import IN_EVALUATOR
from attn_export.exporter.system.files import unwritable, write_text
from attn_export.exporter.system.generation import publish_folder
from attn_export.exporter.system.scratch import clear_abandoned, scratch_folder
from attn_export.exporter.validation.artifact import numpy_name, read_artifact
from attn_export.exporter.workflows.artifact_facts import ArtifactFacts, class_names_of, facts_of, timings_of
from attn_export.exporter.workflows.verify import sign_folder

CONFIG = "config.pbtxt"
FIRST_VERSION = "1"
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
KINDS = {"auto": "KIND_AUTO", "gpu": "KIND_GPU", "cpu": "KIND_CPU"}


@dataclass(frozen=True)
class TritonSettings:
    """How the server runs the models: ``max_batch`` is that of ONNX files, engines have that of their profile."""

    name: str | None = None
    max_batch: int = 8
    instances: int = 1
    kind: str = "auto"


def write_repository(
    paths: Sequence[Path],
    folder: Path,
    settings: TritonSettings,
    *,
    labels: tuple[str, ...] | None = None,
    report: Report | None = None,
    key: Path | None = None,
) -> tuple[Path, ...]:
    """Write ONNX files and engines of classic TensorRT into a model repository, new or not; the models' folders.

    Without labels the classes are called as in the files; a report of a bench says which batches are worth waiting for;
    a private key signs each model.

    Raises:
        UsageError: the name is none for Triton.
        InputError: an artifact can't be read, or Triton can't serve it; the folder holds something else.
        OutputError: a model of the name is there; the folder can't be written.
    """
    check_repository(folder)
    artifacts = [read_artifact(path) for path in paths]
    names = list(_names([artifact.path for artifact in artifacts], settings.name))
    for name in names:
        if (folder / name).exists():
            raise OutputError(
                f"{folder / name} is there already", hint="Remove it first, or give the model another name: --name NAME"
            )
    with scratch_folder(folder if folder.is_dir() else folder.parent) as scratch:
        made = scratch / "content"
        for artifact, name in zip(artifacts, names, strict=True):
            _write_model(artifact, made / name, settings, labels, report)
            if key is not None:
                sign_folder(made / name, key)
        publish_folder(made, folder, scratch)
    return tuple(folder / name for name in names)


def _names(paths: Sequence[Path], first: str | None) -> Iterator[str]:
    """A distinct name for each model: the stem of its file, with what Triton's addresses don't take replaced."""
    if first is not None and not re.fullmatch(NAME, first):
        raise UsageError(
            f"--name {first}: Triton's clients put a model's name into addresses",
            hint="Use letters, digits, _, - and dots: --name digits",
        )
    seen: set[str] = set()
    for i, path in enumerate(paths):
        name = first if first is not None and i == 0 else re.sub(r"[^A-Za-z0-9_.-]+", "_", path.stem).strip("_.-")
        name = name or "model"
        while name in seen:
            name = f"{name}_{path.suffix.lstrip('.')}"
        seen.add(name)
        yield name


def check_repository(folder: Path) -> None:
    """A server lists other things than models as broken ones. Raises InputError: the folder holds such.

    What a killed command left is cleared.
    """
    clear_abandoned(folder)
    if not folder.exists():
        return
    hint = "Name a new folder, or a repository that holds models only."
    if not folder.is_dir():
        raise InputError(f"{folder} is a file", hint=hint)
    others = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".") and not _is_model(entry)]
    if others:
        raise InputError(f"{folder} is no model repository: it holds {others[0].name}", hint=hint)


def _is_model(entry: Path) -> bool:
    return entry.is_dir() and ((entry / CONFIG).is_file() or any(part.name.isdigit() for part in entry.iterdir()))


def _write_model(
    artifact: Artifact, folder: Path, settings: TritonSettings, labels: tuple[str, ...] | None, report: Report | None
) -> None:
    facts = facts_of(artifact)
    names = class_names_of(artifact, facts, labels)
    # The server names places in a tensor, and among the best classes a place isn't a class.
    by_class = facts.postprocessing is None or not facts.postprocessing.top
    served = _served(artifact, facts, folder.name, settings, report, labels=names is not None and by_class)
    try:
        (folder / FIRST_VERSION).mkdir(parents=True)
        write_text(folder / CONFIG, config_of(served))
        if names is not None:
            write_text(folder / LABELS, "".join(f"{name}\n" for name in names))
        (copy if artifact.parsed else shutil.copyfile)(artifact.path, folder / FIRST_VERSION / served.file)
    except OSError as error:
        raise unwritable(folder, error) from error


def _served(
    artifact: Artifact,
    facts: ArtifactFacts,
    name: str,
    settings: TritonSettings,
    report: Report | None,
    *,
    labels: bool,
) -> Served:
    is_engine = artifact.sidecar is not None
    if artifact.sidecar is not None and artifact.sidecar.backend.name != "tensorrt":
        raise InputError(
            f"{artifact.path} was built by {artifact.sidecar.backend}, and Triton loads engines of classic TensorRT",
            hint="Package the ONNX file, or build the engine on the server's GPU: "
            "attn-export build model.onnx --backend tensorrt",
        )
    count, kind = settings.instances, "gpu" if is_engine and settings.kind == "auto" else settings.kind
    if is_engine and kind == "cpu":
        raise UsageError("engines run on GPUs only", hint="Leave --instances cpu out, or package the ONNX file.")
    if kind == "cpu" and artifact.precision in IN_EVALUATOR:
        raise UsageError(
            f"{artifact.path} is {artifact.precision}, which ONNX Runtime doesn't compute on a CPU",
            hint="Leave --instances cpu out, or package the fp32 or int8 file.",
        )
    return Served(
        name=name,
        platform=PLAN if is_engine else ONNX,
        inputs=[_with_numpy_type(tensor) for tensor in artifact.inputs],
        outputs=[_with_numpy_type(tensor) for tensor in artifact.outputs],
        shapes=_shapes(artifact),
        max_batch=max_batch(artifact, settings.max_batch),
        instances=(count, KINDS[kind]),
        labels=labels,
        timings=timings_of(artifact, report),
        preprocessing=facts.preprocessing,
        origin=facts.lines,
    )


def _with_numpy_type(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.dims, numpy_name(tensor.dtype))


def max_batch(artifact: Artifact, wanted: int) -> int:
    """The largest batch that the server may send; 0 where N is fixed in any input or output."""
    if any(tensor.dims is None or isinstance(tensor.dims[0], int) for tensor in (*artifact.inputs, *artifact.outputs)):
        return 0
    if artifact.profile is None:
        return wanted
    if (least := max(artifact.profile[tensor.name].min[0] for tensor in artifact.inputs)) > 1:
        raise InputError(
            f"{artifact.path} takes batches of {least} at least, and a server may have to send one image alone",
            hint="Build it for batches from 1 on: --profile-batch 1,8,32",
        )
    return min(artifact.profile[tensor.name].max[0] for tensor in artifact.inputs)


def _shapes(artifact: Artifact) -> dict[str, tuple[int, ...]]:
    """The sizes of each input in the warm-up; nothing if one isn't known."""
    batched = max_batch(artifact, 1) > 0
    found: dict[str, tuple[int, ...]] = {}
    for tensor in artifact.inputs:
        if artifact.profile is not None:
            sizes: Sequence[Dim] = artifact.profile[tensor.name].opt
        else:
            sizes = tensor.dims or (None,)
        sizes = sizes[1:] if batched else sizes
        found[tensor.name] = tuple(size for dim in sizes if (size := fixed(dim)))
        if len(found[tensor.name]) < len(sizes):
            return {}
    return found
