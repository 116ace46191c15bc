"""Build kits: all that a device needs to build its own engine, and to find out whether that engine computes the same.

A kit is one zip file: the ONNX file, ``kit.json``, the images and results that the engine is judged on, and a page that
says what to do with them. Reading one needs neither torch nor ONNX Runtime nor onnxscript.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attn_export.exporter.kit.read import Kit, read_kit
    from attn_export.exporter.kit.sample_file import Sample
    from attn_export.exporter.kit.write import write_kit
    from attn_export.exporter.validation.sample import sample_of_file, sample_of_reference

HOMES = {
    "Kit": "read",
    "Sample": "sample_file",
    "read_kit": "read",
    "sample_of_file": "sample",
    "sample_of_reference": "sample",
    "write_kit": "write",
}
__all__ = ["Kit", "Sample", "read_kit", "sample_of_file", "sample_of_reference", "write_kit"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and nothing else: reading needs less than writing."""
    if name in HOMES:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
