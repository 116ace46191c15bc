"""The latency of the attention blocks of a network."""

from attn_export.exporter.latency.attention_cost.costs import attention_costs
from attn_export.exporter.records.attention import AttentionCost, TimedBlock

__all__ = ["AttentionCost", "TimedBlock", "attention_costs"]
