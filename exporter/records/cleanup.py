"""The result of a cleanup: rewrites applied, skipped and reverted."""

from msgspec import Struct

from attn_export.exporter.artifacts import AttentionBlock, Step


class AppliedRewrite(Struct, frozen=True):
    """A rewrite in the graph. ``error`` is the largest relative difference in its verification, in float64."""

    rule: str
    place: str
    error: float


class SkippedRewrite(Struct, frozen=True):
    """A rewrite that a rule nearly made, and the reason why it didn't."""

    rule: str
    place: str
    reason: str


class RevertedRewrite(Struct, frozen=True, rename={"tolerance": "limit"}):
    """A rewrite whose error exceeds the tolerance: a bug in its rule. It isn't in the graph."""

    rule: str
    place: str
    error: float
    tolerance: float


class Cleaned(Struct, frozen=True):
    """The cleanup of a graph; ``skipped`` are rewrites that it nearly allows, ``blocks_before`` those at the start."""

    steps: tuple[Step, ...]
    applied: tuple[AppliedRewrite, ...]
    skipped: tuple[SkippedRewrite, ...]
    reverted: tuple[RevertedRewrite, ...]
    blocks: tuple[AttentionBlock, ...]
    blocks_before: tuple[AttentionBlock, ...] = ()
