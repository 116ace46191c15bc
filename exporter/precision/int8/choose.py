"""Chooses how a graph is quantized: step by step, each kept if the outputs on the calibration images improve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import AttentionBlock, Target
from attn_export.exporter.errors import InputError
from attn_export.exporter.graph.session import SessionError
from attn_export.exporter.precision.int8.equalize import equalize
from attn_export.exporter.precision.int8.placement import Choices, Placement, place
from attn_export.exporter.precision.int8.quality import compared, worst
from attn_export.exporter.precision.int8.ranges import Method
from attn_export.exporter.precision.int8.rounding import Rounding
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.precision.int8.sweep import Recipe, Sweep, sweep
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.records.quantization import QuantizationStep
from attn_export.exporter.records.verdict import Quality
from attn_export.exporter.system.progress import Progress


@dataclass(frozen=True)
class Trial:
    """A quantization that was tried.

    Attributes:
        model: float32; equalized, if that was part of it.
        quality: of its scores on the calibration images.
    """

    model: ir.Model
    placement: Placement
    recipe: Recipe
    found: Sweep
    quality: Quality


@dataclass(frozen=True)
class Work:
    """What every trial needs.

    Attributes:
        folder: of the graph's weights.
        blocks: the attention blocks of the graph.
        feeds: the calibration images, batch by batch.
    """

    folder: Path
    blocks: Sequence[AttentionBlock]
    feeds: Sequence[Arrays]
    threads: int
    progress: Progress

    def trial(self, title: str, model: ir.Model, choices: Choices, recipe: Recipe) -> Trial:
        """Quantize a model once.

        Raises:
            InputError: ONNX Runtime can't run it on the images, or a value is NaN or infinite.
            UsageError: an excluded name is in no node, or no layer is left.
        """
        placement = place(model.graph, self.blocks, choices)
        with self.progress.stage(title) as advance:
            try:
                found = sweep(model, placement, self.feeds, recipe, threads=self.threads, advance=advance)
            except SessionError as error:
                raise InputError(f"ONNX Runtime can't run the graph on the images: {error}") from error
        return Trial(model, placement, recipe, found, compared(*found.scores))


def choose(model: ir.Model, settings: QuantizeSettings, work: Work) -> tuple[Trial, tuple[QuantizationStep, ...]]:
    """The best trial, and what each step gained.

    The model is cleaned float32, with names and types; it isn't changed.

    Raises:
        InputError: ONNX Runtime can't run the graph on the images, or a value is NaN or infinite.
        UsageError: an excluded name is in no node, or no layer is left.
    """
    symmetric = settings.choices.runtime is not Target.ONNXRUNTIME
    methods = tuple(Method) if settings.method is None else (settings.method,)
    tried = [work.trial(f"Choosing ranges ({m})", model, settings.choices, Recipe(m, symmetric)) for m in methods]
    best = max(tried, key=_worst)
    steps = [QuantizationStep(f"ranges by {t.recipe.method}", t.quality, kept=t is best) for t in tried]
    for name, improve in _improvements(settings, work):
        other = improve(best)
        if other is not None:
            kept = _worst(other) >= _worst(best)
            steps.append(QuantizationStep(name, other.quality, kept=kept))
            best = other if kept else best
    return best, tuple(steps)


def _improvements(settings: QuantizeSettings, work: Work) -> list[tuple[str, Callable[[Trial], Trial | None]]]:
    """What is tried on top of the best ranges, in this order."""

    def equalized(best: Trial) -> Trial | None:
        copy = best.model.clone()
        if not equalize(copy, {str(value.name): peak for value, peak in best.found.peaks.items()}):
            return None
        other = work.trial("Equalizing channels", copy, settings.choices, best.recipe)
        return other if _same_floats(best, other) else None

    def corrected(best: Trial) -> Trial:
        return work.trial("Correcting biases", best.model, settings.choices, replace(best.recipe, correct=True))

    def rounded(best: Trial) -> Trial:
        recipe = replace(best.recipe, rounding=settings.rounding)
        return work.trial(f"Rounding weights ({settings.rounding})", best.model, settings.choices, recipe)

    improvements: list[tuple[str, Callable[[Trial], Trial | None]]] = []
    if settings.equalize:
        improvements.append(("cross-layer equalization", equalized))
    if settings.rounding is not Rounding.NEAREST:
        improvements.append((f"rounding by {settings.rounding}", rounded))
    if settings.correct_bias:
        improvements.append(("bias correction", corrected))
    return improvements


def _same_floats(first: Trial, second: Trial) -> bool:
    """Whether two models have the same float32 scores, bit for bit."""
    one, other = first.found.scores[0], second.found.scores[0]
    return all(np.array_equal(a, b) for name in one for a, b in zip(one[name], other[name], strict=True))


def _worst(trial: Trial) -> float:
    return worst(trial.quality)
