"""The cost of attention in a file."""

from msgspec import Struct


class TimedBlock(Struct, frozen=True):
    """One attention block.

    Attributes:
        kind: such as "SE" or "CBAM channel", see docs/cleanup.md; "gate" for blocks of no known kind.
        channels: C of the gated map, None if unknown.
        macs: multiply-accumulates for one image, None if a shape is unknown.
        ms: time of its kernels in one inference.
        share: of the time of all kernels, 0..1.
    """

    module_path: str
    kind: str
    channels: int | None
    macs: int | None
    ms: float
    share: float
    kernels: int


class AttentionCost(Struct, frozen=True):
    """The cost of attention in one file and runtime.

    Attributes:
        with_ms: median of one inference.
        without_ms: median of one inference of the ablated model, in interleaved runs.
        ratio: with / without.
        macs: multiply-accumulates of the network for one image.
        attention_macs: those of its attention blocks.
        profiled_ms: all kernels of one inference, from the runtime's profiler.
        attention_ms: kernels that only compute attention.
        unattributed_ms: kernels that also compute other layers, or of unknown purpose.
        blocks: in topological order; empty without a profile.
        missed: the reason why values are missing (None); empty if none is.
    """

    artifact: str
    runtime: str
    batch: int
    with_ms: float | None = None
    without_ms: float | None = None
    ratio: float | None = None
    ratio_interval: tuple[float, float] | None = None
    verdict: str | None = None
    macs: int | None = None
    attention_macs: int | None = None
    profiled_ms: float | None = None
    attention_ms: float | None = None
    unattributed_ms: float | None = None
    blocks: tuple[TimedBlock, ...] = ()
    missed: str = ""
