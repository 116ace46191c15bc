"""Two reports of the same network -> what changed. Compares records, and measures nothing."""

from attn_export.exporter.compare.compare import Comparison, compare
from attn_export.exporter.compare.pair import Pair
from attn_export.exporter.compare.read import Report, read_report

__all__ = ["Comparison", "Pair", "Report", "compare", "read_report"]
