"""Graph to graph: the same function in the form that suits what runs it. Knows no file and no torch."""

from attn_export.exporter.cleanup.pipeline import clean, clean_graph
from attn_export.exporter.records.cleanup import Cleaned

__all__ = ["Cleaned", "clean", "clean_graph"]
