"""What attention costs where a network runs. Measures; changes nothing, and judges nothing."""

from attn_export.exporter.latency.attention_cost.costs import attention_costs
from attn_export.exporter.records.attention import AttentionCost, TimedBlock

__all__ = ["AttentionCost", "TimedBlock", "attention_costs"]
