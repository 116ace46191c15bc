"""The reference outputs that artifacts are compared with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import LoadedModel, Precision
from attn_export.exporter.network.batches import Batch
from attn_export.exporter.system.memory import trim
from attn_export.exporter.system.progress import Progress, counted

if TYPE_CHECKING:
    from attn_export.exporter.validation.cache import Cache
    from attn_export.exporter.validation.reference import Reference


def reference_outputs(
    model: LoadedModel,
    batches: Sequence[Batch],
    precisions: Sequence[Precision],
    progress: Progress,
    cache: "Cache | None" = None,
    least: int = 1,
) -> "Reference":
    """Run the network in float64, and in each precision for the baseline errors.

    An export does this first: it needs the most memory, and the later stages reuse what it frees.

    ``least`` is that of `compute_reference`.
    """
    with progress.stage("Computing the reference in float64") as advance:
        from attn_export.exporter.validation.cache import cached_reference

        reference, cached = cached_reference(
            model, batches, counted(advance, len(batches)), tuple(dict.fromkeys(precisions)), cache, least
        )
        trim()
    if cached:
        progress.note("the reference was computed before, from the same weights, operators and images")
    return reference
