"""Runtimes for artifacts: one small interface, one file for each runtime.

Their libraries are imported on construction, so each works without the others.
"""

from collections.abc import Callable, Sequence

from attn_export.exporter.artifacts import CUDA, LoadedModel, OnnxFile, Precision
from attn_export.exporter.errors import UsageError
from attn_export.exporter.runtimes.base import Runtime, Settings


def _eager(model: LoadedModel, file: OnnxFile, settings: Settings) -> Runtime:
    from attn_export.exporter.runtimes.eager import Eager

    return Eager(model, file.signature, settings)


def _compile(model: LoadedModel, file: OnnxFile, settings: Settings) -> Runtime:
    from attn_export.exporter.runtimes.eager import Compiled

    return Compiled(model, file.signature, settings)


def _onnxruntime(model: LoadedModel, file: OnnxFile, settings: Settings) -> Runtime:
    return _onnxruntime_cuda(model, file, settings) if settings.device == CUDA else _onnxruntime_cpu(file, settings)


def _onnxruntime_cuda(model: LoadedModel, file: OnnxFile, settings: Settings) -> Runtime:  # noqa: ARG001 (common signature)
    from attn_export.exporter.runtimes.onnxruntime_cuda import OnnxRuntimeCuda

    return _of_precision(OnnxRuntimeCuda(file.path, file.signature, settings), file)


def _onnxruntime_cpu(
    file: OnnxFile, settings: Settings, extra: Sequence[str] = (), only_extra: bool = False
) -> Runtime:
    from attn_export.exporter.graph.read import parsed
    from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime, crashing_optimization

    graph, without = parsed(file).model if extra else None, crashing_optimization(file)
    runtime = OnnxRuntime(
        file.path, file.signature, settings, extra, only_extra=only_extra, graph=graph, without=without
    )
    return _of_precision(runtime, file)


def _of_precision(runtime: Runtime, file: OnnxFile) -> Runtime:
    runtime.precision = file.precision.onnx_name
    return runtime


def runtime_of_file(
    file: OnnxFile, settings: Settings, extra_outputs: Sequence[str] = (), *, only_extra: bool = False
) -> Runtime:
    """The CPU runtime that validates a file: ONNX Runtime, or onnx's reference evaluator for bfloat16.

    ``extra_outputs`` are intermediate tensors, which are returned too, or alone.
    """
    if file.precision not in IN_EVALUATOR:
        return _onnxruntime_cpu(file, settings, extra_outputs, only_extra)
    from attn_export.exporter.runtimes.evaluator import Evaluator

    return _of_precision(Evaluator(file.path, file.signature, settings, extra_outputs, only_extra=only_extra), file)


RUNTIMES: dict[str, Callable[[LoadedModel, OnnxFile, Settings], Runtime]] = {
    "eager": _eager,
    "compile": _compile,
    "onnxruntime": _onnxruntime,
    "onnxruntime-cuda": _onnxruntime_cuda,
}
# ONNX Runtime has no convolutions of these types on a CPU: onnx's reference evaluator runs them, and isn't timed.
IN_EVALUATOR = (Precision.BF16, Precision.FP8)
# Those that run a file instead of the PyTorch module.
RUNS_FILES = ("onnxruntime", "onnxruntime-cuda")
# Those that run engines from --engine; timed by default if there is a GPU.
RUNS_ENGINES = ("tensorrt", "tensorrt-rtx")
DEFAULT_RUNTIMES = ("eager", "onnxruntime")


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names without repetition. Raises UsageError: a runtime is unknown."""
    for name in names:
        if name not in (*RUNTIMES, *RUNS_ENGINES):
            raise UsageError(f"unknown runtime {name!r}", hint=f"Known are {', '.join((*RUNTIMES, *RUNS_ENGINES))}.")
    return tuple(dict.fromkeys(names))


def check_devices(names: Sequence[str], settings: Settings) -> None:
    """Check in advance that the runtimes' devices are available.

    Raises:
        UsageError: two names mean the same runtime on this device.
        RuntimeUnavailableError: one of them lacks CUDA.
    """
    if settings.device == CUDA and {"onnxruntime", "onnxruntime-cuda"} <= set(names):
        raise UsageError("onnxruntime and onnxruntime-cuda are the same on cuda", hint="Leave one of them out.")
    for name in names:
        if name in ("eager", "compile") and settings.device == CUDA:
            from attn_export.exporter.runtimes.torch_cuda import require_cuda

            require_cuda(name)
        elif name == "onnxruntime-cuda" or (name == "onnxruntime" and settings.device == CUDA):
            from attn_export.exporter.runtimes.onnxruntime_cuda import require_provider

            require_provider()
