"""Deployment bundles: what a device needs to build its own engine and to verify its results.

A bundle is one zip file: the ONNX file, ``bundle.json``, test images with golden outputs, and a page that says what to
do with them. Reading one needs neither torch nor ONNX Runtime nor onnxscript.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attn_export.exporter.bundle.golden import GoldenVectors
    from attn_export.exporter.bundle.read import Bundle, read_bundle
    from attn_export.exporter.bundle.write import write_bundle

HOMES = {
    "Bundle": "read",
    "GoldenVectors": "golden",
    "read_bundle": "read",
    "write_bundle": "write",
}
__all__ = ["Bundle", "GoldenVectors", "read_bundle", "write_bundle"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, and nothing else: reading needs less than writing."""
    if name in HOMES:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
