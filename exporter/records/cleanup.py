"""What a cleanup did: rewrites applied, skipped and reverted."""

from msgspec import Struct

from attn_export.exporter.artifacts import AttentionBlock, Step


class AppliedRewrite(Struct, frozen=True):
    """A rewrite that took place. ``error`` is the largest relative difference that its proof found, in float64."""

    rule: str
    place: str
    error: float


class SkippedRewrite(Struct, frozen=True):
    """A rewrite that didn't take place, and why."""

    rule: str
    place: str
    reason: str


class RevertedRewrite(Struct, frozen=True):
    """A rewrite that would have changed the result: a defect of the rule. ``limit`` is what its proof allowed."""

    rule: str
    place: str
    error: float
    limit: float


class Cleaned(Struct, frozen=True):
    """What was done to a graph.

    Attributes:
        steps: with the node count before and after each.
        applied: rewrites that took place, proven.
        skipped: those that nearly did, and why not, in the state in which the graph is left.
        reverted: those that would have changed the result. They are not in the graph, and are defects of their rules.
        blocks: the attention blocks, with their node counts before and after.
        blocks_before: the same before the first rule, with the names that their nodes had then.
    """

    steps: tuple[Step, ...]
    applied: tuple[AppliedRewrite, ...]
    skipped: tuple[SkippedRewrite, ...]
    reverted: tuple[RevertedRewrite, ...]
    blocks: tuple[AttentionBlock, ...]
    blocks_before: tuple[AttentionBlock, ...] = ()
