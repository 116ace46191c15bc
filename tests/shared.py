"""Captures and reference outputs of the zoo's networks, computed once per run of the tests.

They take most of the time of an export, and dozens of tests export the same networks. The first test that asks, of any
worker, computes them and writes them to a file, which all others read::

    from tests.shared import capture, compute_reference  # in place of the exporter's own

Tests of these two functions import the real ones.
"""

import fcntl
import hashlib
import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import onnx
import onnx_ir as ir
import pytest
from torch import nn

from attn_export.exporter.artifacts import Graph, LoadedModel, Precision
from attn_export.exporter.network.batches import Batch
from attn_export.exporter.network.capture import capture as capture_anew
from attn_export.exporter.validation.compute_reference import compute_reference as compute_anew
from attn_export.exporter.validation.reference import Reference
from tests.conftest import SHARED

T = TypeVar("T")

# Modules that do what their description and their weights say.
LARGEST = 2**30  # bytes of weights: a protobuf message holds less than 2 GiB
KNOWN = ("attn_export.models.", "torch.nn.")


def once(make: Callable[[], T], *key: object) -> T:
    """A copy of ``make()``'s result, which is called once per run for each key. The result has to be picklable."""
    path = Path(os.environ[SHARED], hashlib.sha256(repr(key).encode()).hexdigest())
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        if not path.exists():
            scratch = path.with_suffix(".part")
            scratch.write_bytes(pickle.dumps(make()))
            scratch.replace(path)
    result: T = pickle.loads(path.read_bytes())
    return result


def capture(model: LoadedModel, **options: Any) -> Graph:
    """The graph of a network, to be changed at will. Modules from outside of the zoo are captured each time."""
    if not _is_shared(model.module):
        return capture_anew(model, **options)

    def captured() -> tuple[Any, bytes]:
        graph = capture_anew(model, **options)
        return replace(graph, model=None), ir.to_proto(graph.model).SerializeToString()  # type: ignore[arg-type]

    graph, content = once(captured, "capture", _digest(model.module), model.inputs, sorted(options.items()))
    return replace(graph, model=ir.from_proto(onnx.ModelProto.FromString(content)), parent_sha256=model.sha256)


def compute_reference(
    model: LoadedModel,
    batches: Sequence[Batch],
    advance: Callable[[], None] = lambda: None,
    precisions: Sequence[Precision] = (Precision.FP32,),
    least: int = 1,
) -> Reference:
    """The reference outputs of a network. Modules from outside of the zoo are run each time."""
    if not _is_shared(model.module):
        return compute_anew(model, batches, advance, precisions, least)
    images = [(b.kinds, b.names, b.shapes, _hashes(b)) for b in batches]
    key = ("reference", _digest(model.module), images, tuple(precisions), least)
    reference = once(lambda: compute_anew(model, batches, precisions=precisions, least=least), *key)
    for _ in batches:
        advance()
    return reference


def _hashes(batch: Batch) -> list[str]:
    return [hashlib.sha256(array.tobytes()).hexdigest() for array in batch.arrays.values()]


def use(patch: pytest.MonkeyPatch) -> None:
    """Let exports take both from here."""
    patch.setattr("attn_export.exporter.network.capture.capture", capture)
    patch.setattr("attn_export.exporter.validation.compute_reference.compute_reference", compute_reference)


def _is_shared(network: nn.Module) -> bool:
    size = sum(parameter.nbytes for parameter in network.parameters())
    return size < LARGEST and all(_known(module) for module in network.modules())


def _known(module: nn.Module) -> bool:
    return type(module).__module__.startswith(KNOWN) and not module._forward_hooks and not module._forward_pre_hooks


def _digest(module: nn.Module) -> str:
    """Hash of the classes, their settings and the weights."""
    digest = hashlib.sha256(str(module).encode())
    for path, part in module.named_modules():
        settings = {name: value for name, value in vars(part).items() if isinstance(value, bool | int | float | str)}
        digest.update(f"{path} {type(part)} {settings}".encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
