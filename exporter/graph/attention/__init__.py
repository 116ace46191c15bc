"""Which attention blocks a graph has, and where. Sees graphs only; changes nothing."""

from attn_export.exporter.artifacts import AttentionBlock
from attn_export.exporter.graph.attention.recognize import find_blocks

__all__ = ["AttentionBlock", "find_blocks"]
