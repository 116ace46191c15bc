"""A runtime of a file in plain values, so that another process can make one of the same file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attn_export.exporter.artifacts import Axis, Signature
from attn_export.exporter.runtimes.base import ENGINE, Blueprint, Runtime, Settings


def from_dict(values: Mapping[str, Any]) -> Blueprint:
    """What `Blueprint.to_dict` gave, after it went through JSON."""
    told = values["signature"]
    axes = tuple(Axis(**axis) for axis in told["axes"])
    signature = Signature(told["input_name"], tuple(told["input_shape"]), axes, tuple(told["output_names"]))
    path, settings = Path(values["path"]), Settings(**values["settings"])
    return Blueprint(values["kind"], path, signature, settings, values["precision"], values["trust"])


def _onnxruntime(blueprint: Blueprint) -> Runtime:
    from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime

    return OnnxRuntime(blueprint.path, blueprint.signature, blueprint.settings)


def _onnxruntime_cuda(blueprint: Blueprint) -> Runtime:
    from attn_export.exporter.runtimes.onnxruntime_cuda import OnnxRuntimeCuda

    return OnnxRuntimeCuda(blueprint.path, blueprint.signature, blueprint.settings)


def _engine(blueprint: Blueprint) -> Runtime:
    from attn_export.exporter.runtimes.tensorrt import TensorRT

    return TensorRT(blueprint.path, blueprint.signature, blueprint.settings, trust=blueprint.trust)


MAKERS: dict[str, Callable[[Blueprint], Runtime]] = {
    "onnxruntime": _onnxruntime,
    "onnxruntime-cuda": _onnxruntime_cuda,
    ENGINE: _engine,
}


def make(blueprint: Blueprint) -> Runtime:
    """The runtime, not open.

    Raises:
        UnreadableEngineError: an engine's record is damaged.
    """
    runtime = MAKERS[blueprint.kind](blueprint)
    runtime.precision = blueprint.precision
    return runtime
