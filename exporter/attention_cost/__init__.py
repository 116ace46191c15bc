"""What attention costs where a network runs. Measures; changes nothing, and judges nothing."""

from attn_export.exporter.attention_cost.costs import attention_costs
from attn_export.exporter.attention_cost.result import AttentionCost, TimedBlock

__all__ = ["AttentionCost", "TimedBlock", "attention_costs"]
