"""From a trained network with attention to a proven ONNX file, TensorRT engines and latencies."""


def __getattr__(name: str) -> str:
    """``__version__``, looked up at first use, because the lookup takes as long as a small import."""
    if name == "__version__":
        from importlib.metadata import version

        return version("attn-export")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
