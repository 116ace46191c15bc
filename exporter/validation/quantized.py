"""Quantized artifacts: whether the runtime computes the graph, and the graph computes the network.

*Runtime conformance*: the reference is the graph in float64. Where a value lies halfway between two quantization steps,
any earlier rounding decides between them, and all later values differ: most images are equal to the last bit, a few are
off by a step. So errors count per image. A wrong runtime is wrong for most images.

*Quantization quality*: signal-to-quantization-noise ratio and agreement of classes; `--require` sets limits other than
the default.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import structs

from attn_export.exporter.errors import DisagreementError, UsageError
from attn_export.exporter.network.batches import Batch
from attn_export.exporter.network.images import NOMINAL, REAL
from attn_export.exporter.precision.int8.quality import compared
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.policies import MIN_SQNR, QUANTIZED
from attn_export.exporter.records.verdict import Classes, Comparison, Quality, QualityRequirement, Verdict
from attn_export.exporter.runtimes.base import Runtime
from attn_export.exporter.validation.onnx_graph import ExactGraph
from attn_export.exporter.validation.reference import Reference
from attn_export.exporter.validation.verdict import compare, shape_name

# Quantiles over images, calibrated in docs/validation.md: of the runtime's errors, and of the float32 graph's. Both
# have ties, rarely on the same images.
ERROR_QUANTILE, BASELINE_QUANTILE = 0.25, 0.5
MOST = "most"  # kind of input: most images
SQNR = "sqnr"
SHARES = ("agreement", "top1", "top5")

Outputs = Sequence[tuple[Array, ...]]  # for every batch, one array (N, ...) per output


def parse_requirement(parts: Sequence[str]) -> QualityRequirement | None:
    """``["sqnr=20", "agreement=0.99", "top1=99%"]``. Raises UsageError: a part has another form, or is out of range."""
    values: dict[str, float] = {}
    for part in parts:
        name, equals, text = part.partition("=")
        share = name in SHARES
        try:
            value = float(text.removesuffix("%")) / 100 if share and text.endswith("%") else float(text)
        except ValueError:
            value = math.nan
        if name not in (SQNR, *SHARES) or not equals or not math.isfinite(value) or name in values:
            raise UsageError(
                f"--require {part} can't be understood",
                hint="Expected is sqnr=DB, or agreement, top1 or top5 with a share such as 0.99 or 99%, each once.",
            )
        if share and not 0 <= value <= 1:
            raise UsageError(
                f"--require {part}: a share is between 0 and 1, or 0 and 100 %", hint=f"For example {name}=0.99."
            )
        values[name] = value
    return QualityRequirement(**values) if values else None


def runtime_conformance(
    runtime: Runtime, graph: Path, batches: Sequence[Batch]
) -> tuple[Verdict, list[tuple[Array, ...]]]:
    """Whether a runtime computes a quantized graph, and the graph's float64 outputs for each batch.

    ``runtime`` is of the graph's file, or of an engine built from it; not open.

    Raises:
        InputError: the reference evaluator can't compute the graph.
        RuntimeUnavailableError: the runtime can't.
    """
    names = runtime.signature.output_names
    double, single = ExactGraph(graph, np.float64), ExactGraph(graph, np.float32)
    exact = [double(runtime.signature.feeds(batch.arrays), names) for batch in batches]
    baseline = [single(runtime.signature.feeds(batch.arrays), names) for batch in batches]
    computed = outputs_of(runtime, batches)
    verdict = QUANTIZED.verdict(
        runtime.name,
        [_compared(name, i, computed, baseline, exact, batches) for i, name in enumerate(names)],
        (batch.shapes for batch in batches),
        images=sum(map(len, batches)),
        gates_missed="a quantized graph is compared with itself",
    )
    return verdict, exact


def outputs_of(runtime: Runtime, batches: Sequence[Batch]) -> list[tuple[Array, ...]]:
    """The outputs of each batch. Raises RuntimeUnavailableError: the runtime, which isn't open, can't run."""
    with runtime:
        results = [runtime.run(runtime.signature.feeds(batch.arrays)) for batch in batches]
    return [tuple(result[name] for name in runtime.signature.output_names) for result in results]


def _compared(
    name: str, i: int, computed: Outputs, baseline: Outputs, exact: Outputs, batches: Sequence[Batch]
) -> Comparison:
    errors: dict[str, list[float]] = {}
    for batch, results, expected in zip(batches, computed, exact, strict=True):
        errors.setdefault(shape_name(batch.shapes), []).extend(_errors([results[i]], [expected[i]]))
    error = _quantile(_errors([results[i] for results in computed], [expected[i] for expected in exact]))
    own = _errors([results[i] for results in baseline], [expected[i] for expected in exact])
    return compare(
        name,
        "output",
        {MOST: error},
        {MOST: float(np.quantile(own, BASELINE_QUANTILE, method="higher"))},
        QUANTIZED,
        by_shape={shape: {MOST: _quantile(of_shape)} for shape, of_shape in errors.items()},
    )


def _quantile(errors: Sequence[float]) -> float:
    """The error that most images exceed."""
    return float(np.quantile(errors, ERROR_QUANTILE, method="lower"))


def _errors(computed: Sequence[Array], exact: Sequence[Array]) -> list[float]:
    """The relative error of each image; infinite where a value is not finite or the size differs."""
    errors = []
    for results, expected in zip(computed, exact, strict=True):
        if results.size != expected.size:
            return [math.inf]
        for row, exact_row in zip(results, expected, strict=True):
            distance = float(np.linalg.norm(np.asarray(row, np.float64) - exact_row))
            length = max(float(np.linalg.norm(exact_row)), float(np.finfo(np.float64).tiny))
            errors.append(distance / length if math.isfinite(distance) else math.inf)
    return errors


def quality(computed: Outputs, reference: Reference, names: Sequence[str]) -> Quality:
    """Quantization quality of a graph on the user's images, or on nominal ones where there are none.

    ``computed`` are the graph's float64 outputs for each batch of the reference.
    """
    kinds = {kind for batch in reference.batches for kind in batch.kinds}
    judged = {REAL} if REAL in kinds else NOMINAL
    rows = [[i for i, kind in enumerate(batch.kinds) if kind in judged] for batch in reference.batches]
    exact: dict[str, list[Array]] = {name: [] for name in names}
    found: dict[str, list[Array]] = {name: [] for name in names}
    for outputs, result, chosen in zip(computed, reference.exact, rows, strict=True):
        for o, name in enumerate(names if chosen else ()):
            exact[name].append(np.asarray(result.outputs[o][chosen], np.float64))
            found[name].append(outputs[o][chosen].reshape(exact[name][-1].shape))
    return compared(exact, found)


def classes_of(measured: Quality) -> Classes | None:
    """Agreement of classes as in a verdict; None for an output without classes."""
    if measured.agreement is None:
        return None
    return Classes(measured.images, round((1 - measured.agreement) * measured.images))


def with_default(requirement: QualityRequirement | None) -> QualityRequirement:
    """The requirement, with the default SQNR where it names none."""
    requirement = requirement or QualityRequirement()
    return structs.replace(requirement, sqnr=MIN_SQNR) if requirement.sqnr is None else requirement


def broken(requirement: QualityRequirement, measured: Quality, artifact: str) -> DisagreementError | None:
    """The error for a requirement that isn't met; None for one that is.

    Raises:
        UsageError: the requirement is agreement, and the network has no classes; or right answers, without labels.
    """
    if requirement.top1 is not None or requirement.top5 is not None:
        raise UsageError("--require top1 and top5 need labelled images", hint="--eval DIR, or leave them out.")
    decibels = {name: math.inf if value is None else value for name, value in measured.sqnr_db.items()}
    worst = min(decibels, key=decibels.__getitem__)
    if requirement.agreement is not None and measured.agreement is None:
        raise UsageError("--require agreement: the network returns no scores of classes", hint="Require sqnr instead.")
    if requirement.sqnr is not None and decibels[worst] < requirement.sqnr:
        reason = f"{worst} has {decibels[worst]:.1f} dB, and {requirement.sqnr:g} are required"
    elif requirement.agreement is not None and (measured.agreement or 0.0) < requirement.agreement:
        reason = f"{measured.agreement:.1%} of the classes agree, and {requirement.agreement:.1%} are required"
    else:
        return None
    return DisagreementError(
        f"{artifact} doesn't meet its requirement: {reason} (over {measured.images} images)",
        hint="Was it calibrated on images that are normalized as the network takes them? If so, calibrate it on more, "
        "keep its most sensitive layers in float, compare on images of yours (--images), or require less (--require).",
    )
