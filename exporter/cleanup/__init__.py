"""Graph to graph: the same function in fewer, plainer nodes. Sees graphs only; knows no file and no torch."""

from attn_export.exporter.cleanup.pipeline import clean

__all__ = ["clean"]
