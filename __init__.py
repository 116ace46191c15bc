"""From a trained network with attention to a proven ONNX file, TensorRT engines and latencies."""


def __getattr__(name: str) -> object:
    """``__version__``, ``load`` and its warning, looked up at first use: that takes as long as a small import."""
    if name in ("load", "FallbackWarning"):
        from attn_export.exporter.workflows import load_device

        return getattr(load_device, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("attn-export")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
