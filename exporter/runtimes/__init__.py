"""Where artifacts run: one small interface, one file per runtime. Runtimes run, and compare nothing.

What a runtime needs is imported when it is made, so that each works where the others are missing.
"""

from collections.abc import Callable, Sequence

from attn_export.exporter.artifacts import LoadedModel, OnnxFile
from attn_export.exporter.errors import UsageError
from attn_export.exporter.runtimes.base import Runtime, Settings

__all__ = ["DEFAULT_RUNTIMES", "RUNTIMES", "Runtime", "Settings", "check_names"]


def _eager(model: LoadedModel, file: OnnxFile, settings: Settings) -> Runtime:
    from attn_export.exporter.runtimes.eager import Eager

    return Eager(model, file.signature, settings)


def _compile(model: LoadedModel, file: OnnxFile, settings: Settings) -> Runtime:
    from attn_export.exporter.runtimes.compiled import Compiled

    return Compiled(model, file.signature, settings)


def _onnxruntime(model: LoadedModel, file: OnnxFile, settings: Settings) -> Runtime:  # noqa: ARG001 (one form for all)
    from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime

    return OnnxRuntime(file.path, file.signature, settings)


RUNTIMES: dict[str, Callable[[LoadedModel, OnnxFile, Settings], Runtime]] = {
    "eager": _eager,
    "compile": _compile,
    "onnxruntime": _onnxruntime,
}
DEFAULT_RUNTIMES = ("eager", "onnxruntime")


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names without repetition.

    Raises:
        UsageError: one of them is no runtime.
    """
    for name in names:
        if name not in RUNTIMES:
            raise UsageError(f"there is no runtime called {name!r}", hint=f"Known are {', '.join(RUNTIMES)}.")
    return tuple(dict.fromkeys(names))
