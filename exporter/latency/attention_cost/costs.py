"""The attention cost of files."""

from collections.abc import Sequence
from dataclasses import replace

from msgspec import structs

from attn_export.exporter.artifacts import CPU, AttentionBlock, OnnxFile
from attn_export.exporter.errors import AttnExportError
from attn_export.exporter.latency.attention_cost.blocks import ProfiledBlocks, profiled_blocks
from attn_export.exporter.latency.attention_cost.macs import macs_of_blocks
from attn_export.exporter.latency.attention_cost.pair import Pair, timed_pair
from attn_export.exporter.network.values import timed_inputs
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.records.attention import AttentionCost, TimedBlock
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.system.progress import Progress

# Shares of the schedule's seconds.
PAIR_SHARE, PROFILE_SHARE = 0.5, 0.125
# Limits of the inferences under the profiler.
FEWEST, MOST = 7, 50
NO_MACS = "the MACs are unknown: the graph has an unknown shape"
NOT_ON_A_GPU = "single kernels on a GPU aren't timed"


def attention_costs(
    files: Sequence[OnnxFile], batch: int, settings: Settings, schedule: Schedule, progress: Progress
) -> tuple[AttentionCost, ...]:
    """Time each file with attention against its ablated model, and its blocks in ONNX Runtime's profile.

    For each file the pair takes half of the schedule's seconds and the profile an eighth, but at least seven
    inferences. On "cuda" blocks aren't timed; ``missed`` has the reasons for missing values.
    """
    return tuple(_cost(_for_batch(file, batch), settings, schedule, progress) for file in files if file.blocks)


def _for_batch(file: OnnxFile, batch: int) -> OnnxFile:
    return replace(file, signature=file.signature.with_batch(batch))


def _cost(file: OnnxFile, settings: Settings, schedule: Schedule, progress: Progress) -> AttentionCost:
    arrays = timed_inputs(file.signature.inputs)
    nothing = AttentionCost(file.name, OnnxRuntime.name, file.signature.batch)
    try:
        with progress.stage("Timing the network without its attention") as advance:
            seconds = PAIR_SHARE * schedule.seconds
            pair = timed_pair(file, arrays, settings, structs.replace(schedule, seconds=seconds), advance)
    except AttnExportError as error:  # recorded instead of raised
        return structs.replace(nothing, missed=error.message)
    counted = macs_of_blocks(file)
    profiled, missed = None, NOT_ON_A_GPU
    if settings.device == CPU:
        with progress.stage("Timing the attention blocks"):
            profiled, missed = _profiled(file, arrays, settings, _inferences(schedule, pair))
    reasons = (pair.missed, "" if counted else NO_MACS, missed)
    return structs.replace(
        nothing,
        with_ms=pair.with_ms,
        without_ms=pair.without_ms,
        ratio=pair.ratio,
        ratio_interval=pair.ratio_interval,
        verdict=pair.verdict,
        macs=counted[0] if counted else None,
        attention_macs=sum(counted[1]) if counted else None,
        profiled_ms=profiled.total_ms if profiled else None,
        attention_ms=sum(profiled.blocks_ms) if profiled else None,
        unattributed_ms=profiled.unattributed_ms if profiled else None,
        blocks=_timed(file.blocks, profiled, counted[1] if counted else None) if profiled else (),
        missed="; ".join(reason for reason in reasons if reason),
    )


def _inferences(schedule: Schedule, pair: Pair) -> int:
    return max(FEWEST, min(MOST, int(PROFILE_SHARE * schedule.seconds * 1e3 / pair.with_ms)))


def _profiled(file: OnnxFile, arrays: Arrays, settings: Settings, inferences: int) -> tuple[ProfiledBlocks | None, str]:
    """The profile, and the reasons for missing parts."""
    try:
        profiled = profiled_blocks(file, arrays, settings, inferences)
    except AttnExportError as error:
        return None, error.message
    reasons = []
    if lost := [b.place for b, kernels in zip(file.blocks, profiled.kernels, strict=True) if not kernels]:
        reasons.append(f"no kernel was found for {', '.join(lost)}")
    if profiled.unattributed:
        several = f"{profiled.unattributed} kernels" if profiled.unattributed > 1 else "a kernel"
        reasons.append(f"the time of {several} is unattributed: parts of a block fused with other work")
    return profiled, "; ".join(reasons)


def _timed(
    blocks: Sequence[AttentionBlock], profiled: ProfiledBlocks, macs: Sequence[int] | None
) -> tuple[TimedBlock, ...]:
    return tuple(
        TimedBlock(
            module_path=block.place,
            kind=block.kind,
            channels=block.channels,
            macs=macs[index] if macs is not None else None,
            ms=profiled.blocks_ms[index],
            share=profiled.blocks_ms[index] / profiled.total_ms if profiled.total_ms else 0.0,
            kernels=profiled.kernels[index],
        )
        for index, block in enumerate(blocks)
    )
