"""From a trained network with attention to a proven ONNX file, TensorRT engines and latencies."""

from typing import Any


def __getattr__(name: str) -> Any:
    """``__version__``, which is looked up when it is asked for: the lookup takes as long as a small import."""
    if name == "__version__":
        from importlib.metadata import version

        return version("attn-export")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
