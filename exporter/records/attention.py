"""What attention costs, as it stands in the record."""

from msgspec import Struct


class TimedBlock(Struct, frozen=True):
    """One attention block.

    Attributes:
        module_path: of the module it came from, or the name of the map it makes.
        kind: "SE", "ECA", "CBAM", "CBAM channel", "CBAM spatial", or "gate".
        channels: C of the map it gates, None where the graph doesn't tell.
        macs: for one image; None where shapes can't be told.
        ms: of its kernels in one inference.
        share: of the time of all kernels, 0..1.
        kernels: that were found to be its own.
    """

    module_path: str
    kind: str
    channels: int | None
    macs: int | None
    ms: float
    share: float
    kernels: int


class AttentionCost(Struct, frozen=True):
    """Of one file in one runtime.

    Attributes:
        artifact: the file's name.
        runtime: that was timed.
        batch: N.
        with_ms: median of one inference of the network.
        without_ms: of its plain twin, the same graph without its attention blocks, in turns with it.
        ratio: with / without.
        ratio_interval: where that lies.
        verdict: of the network: "slower", "faster" or "can't tell".
        macs: multiply-accumulates of the network for one image.
        attention_macs: of its attention blocks.
        profiled_ms: of all kernels in one inference, by the runtime's own profiler.
        attention_ms: of the kernels that compute attention and nothing else.
        unattributed_ms: of kernels that also compute what isn't attention, or that nothing is known of.
        blocks: in the order in which they are computed; none without a profile.
        missed: why a part is missing; empty where nothing is. What is missing is None.
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
