"""Graph to graph: the same function in the form that suits what runs it. Sees graphs only; knows no file and no torch."""

from attn_export.exporter.cleanup.pipeline import Cleaned, clean
from attn_export.exporter.cleanup.target import Target

__all__ = ["Cleaned", "Target", "clean"]
