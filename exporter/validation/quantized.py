"""Artifacts that round to whole numbers on purpose. Two questions are asked of them.

*Conformance*: does the runtime compute what the graph says? The graph in float64 is the reference. Where a value lies
on the edge between two whole numbers, any rounding before it decides which it becomes, and all that follows differs:
most images are computed to the last bit, and a few are off by a step. So errors are looked at image by image. What a
runtime computes wrong, it computes wrong for most images.

*Good?* Does the graph compute what the network does? That is told, and judged only by what was promised.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attn_export.exporter.errors import DisagreementError, UsageError
from attn_export.exporter.network.images import NOMINAL, Batch
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.verdict import Classes, Comparison, Quality, QualityRequirement, Verdict
from attn_export.exporter.runtimes.base import Runtime
from attn_export.exporter.validation.onnx_graph import ExactGraph
from attn_export.exporter.validation.policies import QUANTIZED
from attn_export.exporter.validation.reference import Reference
from attn_export.exporter.validation.verdict import shape_name

# Calibrated, see docs/validation.md. The share of the runtime's images that has to be off, and the share of the float32
# graph's own that may be: both have ties, and few of the same.
OFF, OWN = 0.25, 0.5
KIND = "most"
LOGITS_RANK = 2
SQNR, AGREEMENT = "sqnr", "agreement"


def parse_requirement(parts: Sequence[str]) -> QualityRequirement | None:
    """``["sqnr=20", "agreement=0.99"]``.

    Raises:
        UsageError: it isn't of this form, or out of range.
    """
    told: dict[str, float] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if name not in (SQNR, AGREEMENT) or not equals or not math.isfinite(number) or name in told:
            raise UsageError(
                f"--require {part} can't be understood", hint="Expected is sqnr=DB or agreement=SHARE, each once."
            )
        if name == AGREEMENT and not 0 <= number <= 1:
            raise UsageError(f"--require {part}: a share is between 0 and 1", hint="For example agreement=0.99.")
        told[name] = number
    return QualityRequirement(told.get(SQNR), told.get(AGREEMENT)) if told else None


def runtime_conformance(
    runtime: Runtime, graph: Path, batches: Sequence[Batch]
) -> tuple[Verdict, list[tuple[Array, ...]]]:
    """Whether a runtime computes what a graph says.

    Args:
        runtime: of the graph's file, or of an engine that was built of it; not open.
        graph: the ONNX file.
        batches: that both take.

    Returns:
        The verdict, and what the graph says in double precision, for each batch.

    Raises:
        InputError: the reference evaluator can't compute the graph.
        RuntimeUnavailableError: the runtime can't.
    """
    names = runtime.signature.output_names
    in_double, in_its_own = ExactGraph(graph, np.float64), ExactGraph(graph, np.float32)
    exact = [in_double(batch.images, names) for batch in batches]
    own = [in_its_own(batch.images, names) for batch in batches]
    with runtime:
        results = [runtime.run({runtime.signature.input_name: batch.images}) for batch in batches]
    computed = [tuple(result[name] for name in names) for result in results]
    comparisons = tuple(
        _compared(name, [c[i] for c in computed], [o[i] for o in own], [e[i] for e in exact], batches)
        for i, name in enumerate(names)
    )
    shapes = tuple(dict.fromkeys(tuple(batch.images.shape) for batch in batches))
    missed = "a quantized graph is compared with itself"
    verdict = Verdict(
        runtime.name,
        comparisons,
        shapes,
        missed,
        sum(len(b.images) for b in batches),
        policy=QUANTIZED.name,
        reference=QUANTIZED.reference,
        baseline=QUANTIZED.baseline,
    )
    return verdict, exact


def _compared(
    name: str, computed: Sequence[Array], own: Sequence[Array], exact: Sequence[Array], batches: Sequence[Batch]
) -> Comparison:
    error = _most(_errors(computed, exact))
    baseline = float(np.quantile(_errors(own, exact), OWN, method="higher"))
    baseline = max(baseline, QUANTIZED.floor)
    by_shape: dict[str, list[float]] = {}
    for batch, got, reference in zip(batches, computed, exact, strict=True):
        by_shape.setdefault(shape_name(batch.images.shape), []).extend(_errors([got], [reference]))
    shapes: dict[str, float | None] = {shape: _most(errors) / baseline for shape, errors in by_shape.items()}
    return Comparison(name, "output", KIND, error, baseline, QUANTIZED.limit, {KIND: error / baseline}, shapes)


def _most(errors: Sequence[float]) -> float:
    """By how much most images are off."""
    return float(np.quantile(errors, OFF, method="lower"))


def _errors(computed: Sequence[Array], exact: Sequence[Array]) -> list[float]:
    """Of each image, relative; infinite where something isn't a number or is of another size."""
    found = []
    for got, reference in zip(computed, exact, strict=True):
        if got.size != reference.size:
            return [math.inf]
        for row, expected in zip(got, reference, strict=True):
            apart = float(np.linalg.norm(np.asarray(row, np.float64) - expected))
            size = max(float(np.linalg.norm(expected)), float(np.finfo(np.float64).tiny))
            found.append(apart / size if math.isfinite(apart) else math.inf)
    return found


def quality(said: Sequence[tuple[Array, ...]], reference: Reference, names: Sequence[str]) -> Quality:
    """How what a graph says stands to what the network computes.

    Args:
        said: by the graph, for each batch of the reference, outputs (N, …) in double precision.
        reference: of the network.
        names: of the outputs.
    """
    rows = [[i for i, kind in enumerate(batch.kinds) if kind in NOMINAL] for batch in reference.batches]
    sqnr: dict[str, float | None] = {}
    agreement = None
    for o, name in enumerate(names):
        got = [result[o][chosen] for result, chosen in zip(said, rows, strict=True) if chosen]
        exact = [
            np.asarray(result.outputs[o][chosen], np.float64)
            for result, chosen in zip(reference.exact, rows, strict=True)
            if chosen
        ]
        noise = sum(float(np.square(g.reshape(e.shape) - e).sum()) for g, e in zip(got, exact, strict=True))
        signal = sum(float(np.square(e).sum()) for e in exact)
        sqnr[name] = 10 * math.log10(signal / noise) if noise and signal else math.inf
        if agreement is None and exact[0].ndim == LOGITS_RANK and exact[0].shape[1] > 1:
            same = [g.argmax(1) == e.argmax(1) for g, e in zip(got, exact, strict=True)]
            agreement = float(np.concatenate(same).mean())
    return Quality(sqnr, agreement, sum(map(len, rows)))


def classes_of(found: Quality) -> Classes | None:
    """The agreement as a verdict has it; None for an output without classes."""
    if found.agreement is None:
        return None
    return Classes(found.images, round((1 - found.agreement) * found.images))


def broken(requirement: QualityRequirement, found: Quality, artifact: str) -> DisagreementError | None:
    """The error for a requirement that isn't kept; None for one that is.

    Raises:
        UsageError: agreement was promised for a network without classes.
    """
    decibels = {name: math.inf if value is None else value for name, value in found.sqnr_db.items()}
    worst = min(decibels, key=decibels.__getitem__)
    if requirement.agreement is not None and found.agreement is None:
        raise UsageError("--require agreement: the network returns no scores of classes", hint="Require sqnr instead.")
    told = ""
    if requirement.sqnr is not None and decibels[worst] < requirement.sqnr:
        told = f"{worst} has {decibels[worst]:.1f} dB, and {requirement.sqnr:g} were promised"
    elif requirement.agreement is not None and (found.agreement or 0.0) < requirement.agreement:
        told = f"{found.agreement:.1%} of the classes agree, and {requirement.agreement:.1%} were promised"
    if not told:
        return None
    return DisagreementError(
        f"{artifact} doesn't keep its requirement: {told} (over {found.images} images)",
        first_seen=worst,
        hint="Calibrate it on more images, keep its most sensitive layers in float, or requirement less.",
    )
