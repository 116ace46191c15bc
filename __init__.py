"""From a trained network with attention to a proven ONNX file, TensorRT engines and latencies."""


def __getattr__(name: str) -> object:
    """``__version__`` and ``load``, looked up at first use, because the lookups take as long as a small import."""
    if name == "load":
        from attn_export.exporter.workflows.load_device import load

        return load
    if name == "__version__":
        from importlib.metadata import version

        return version("attn-export")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
