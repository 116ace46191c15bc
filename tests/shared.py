"""Captures of the zoo's networks, made by the first test of a run that asks and read from a file by all others.

PyTorch's exporter takes most of the time of an export, and dozens of tests export the same networks::

    from tests.shared import capture  # in place of attn_export.exporter.network.capture's

Tests of the exporter itself import the real one.
"""

import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import onnx
import onnx_ir as ir
from filelock import FileLock
from torch import nn

from attn_export.exporter.artifacts import Graph, LoadedModel
from attn_export.exporter.network.capture import capture as capture_anew
from tests.conftest import SHARED

T = TypeVar("T")

# Modules that do what their description and their weights say.
KNOWN = ("attn_export.models.", "torch.nn.")


def once(make: Callable[[], T], *key: object) -> T:
    """A copy of ``make()``'s result, which is called once per run for each key. The result has to be picklable."""
    path = Path(os.environ[SHARED], hashlib.sha256(repr(key).encode()).hexdigest())
    with FileLock(f"{path}.lock"):
        if not path.exists():
            scratch = path.with_suffix(".part")
            scratch.write_bytes(pickle.dumps(make()))
            scratch.replace(path)
    result: T = pickle.loads(path.read_bytes())
    return result


def capture(model: LoadedModel, **options: Any) -> Graph:
    """The graph of a network, to be changed at will. Modules from outside of the zoo are captured each time."""
    if not all(type(module).__module__.startswith(KNOWN) for module in model.module.modules()):
        return capture_anew(model, **options)

    def captured() -> tuple[Any, bytes]:
        graph = capture_anew(model, **options)
        return replace(graph, model=None), ir.to_proto(graph.model).SerializeToString()  # type: ignore[arg-type]

    graph, content = once(captured, "capture", *_identity(model), sorted(options.items()))
    return replace(graph, model=ir.from_proto(onnx.ModelProto.FromString(content)), parent_sha256=model.sha256)


def _identity(model: LoadedModel) -> tuple[object, ...]:
    return str(model.module), _digest(model.module), model.input_shape


def _digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
