"""Whether a cleaned graph computes what its source graph computes.

Both run in ONNX Runtime without optimizations, on the same random inputs. `cleanup.proof` verifies every rewrite alone
in float64; this comparison finds errors that only the whole graph shows, such as a wire to the wrong node.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import Dim
from attn_export.exporter.graph.facts import dims
from attn_export.exporter.graph.randomness import random_outputs
from attn_export.exporter.graph.session import PlainSession, SessionError
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.policies import EPS32, SOURCE_GRAPH
from attn_export.exporter.records.verdict import SIZE, Comparison, Verdict
from attn_export.exporter.validation.metrics import difference, perturbed

RANDOM = "random"  # kind of input
# Sizes of dynamic axes, (N, H, W). First the batch that files are usually traced with, and the first map with which the
# source graph runs; then as many other sizes as it takes.
FIRST = tuple((1, side, side) for side in (64, 224, 32))
MORE = ((5, 32, 64), (5, 0, 0), (1, 32, 64))  # N, and what is added to H and W
FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)
INTEGERS = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.BOOL)


@dataclass(frozen=True)
class SourceRun:
    """Inputs and deterministic outputs of the source graph, by name."""

    feeds: Mapping[str, Array]
    outputs: Mapping[str, Array]


def run_source(model: ir.Model, folder: Path, threads: int) -> tuple[SourceRun, ...] | str:
    """Run a graph on random inputs, with every dynamic axis at two sizes if the graph takes them.

    Args:
        model: as `graph.read` returned it.
        folder: of its weights.
        threads: of ONNX Runtime.

    Returns:
        The runs, or why there are none.
    """
    random = random_outputs(model)
    if len(random) == len({value.name for value in model.graph.outputs}):
        return f"all outputs depend on random numbers ({next(iter(random.values()))})"
    try:
        session = PlainSession(model, threads, folder)
    except SessionError as error:
        return f"ONNX Runtime doesn't take the file: {error}"
    feeds = [_feeds(model, sizes) for sizes in FIRST]
    first = _first_that_runs(session, feeds, random)
    if isinstance(first, str):
        return first
    index = next(i for i, tried in enumerate(feeds) if tried is first.feeds)
    side = FIRST[index][1]
    others = [_feeds(model, (batch, side + height, side + width)) for batch, height, width in MORE]
    second = _first_that_runs(session, [tried for tried in others if _shapes(tried) != _shapes(first.feeds)], random)
    return (first,) if isinstance(second, str) else (first, second)


def _first_that_runs(
    session: PlainSession, feeds: Sequence[dict[str, Array] | str], random: Collection[str]
) -> SourceRun | str:
    reason = ""
    for tried in feeds:
        if isinstance(tried, str):
            return tried
        try:
            outputs = session.run(tried)
        except SessionError as error:
            reason = f"ONNX Runtime can't run the file on random inputs: {error}"
            continue
        return SourceRun(tried, {name: array for name, array in outputs.items() if name not in random})
    return reason


def _shapes(feeds: Mapping[str, Array] | str) -> list[tuple[int, ...]]:
    return [] if isinstance(feeds, str) else [array.shape for array in feeds.values()]


def sensitivity(source: SourceRun, model: ir.Model, folder: Path, threads: int) -> dict[str, float]:
    """The relative change of each output of a graph when every input moves by one rounding."""
    feeds = {name: perturbed(array) for name, array in source.feeds.items()}
    outputs = PlainSession(model, threads, folder).run(feeds)
    return {name: difference(outputs[name], expected) for name, expected in source.outputs.items()}


def compare_with_source(
    runs: Sequence[SourceRun],
    cleaned: ir.Model,
    folder: Path,
    threads: int,
    sensitive: Callable[[SourceRun], Mapping[str, float]],
) -> Verdict | str:
    """Run a cleaned graph on its source's inputs and compare the outputs.

    Args:
        runs: from `run_source`.
        cleaned: as `graph.read` returned it.
        folder: of its weights.
        threads: of ONNX Runtime.
        sensitive: returns the source's `sensitivity`; called only where the floor doesn't explain the difference.

    Returns:
        The verdict, or why the cleaned graph doesn't run.
    """
    comparisons: dict[str, Comparison] = {}
    try:
        session = PlainSession(cleaned, threads, folder)
        for source in runs:
            for found in _comparisons(source, session.run(source.feeds), sensitive):
                known = comparisons.get(found.tensor)
                if known is None or found.severity > known.severity:
                    comparisons[found.tensor] = found
    except SessionError as failure:
        return f"the cleaned graph doesn't run: {failure}"
    return SOURCE_GRAPH.verdict(
        "onnxruntime",
        comparisons.values(),
        (tuple(array.shape for array in source.feeds.values()) for source in runs),
        images=len(runs),
        gates_missed="a cleaned graph has other gates than its source",
    )


def _comparisons(
    source: SourceRun, outputs: Mapping[str, Array], sensitive: Callable[[SourceRun], Mapping[str, float]]
) -> Iterator[Comparison]:
    changes = None
    for name, expected in source.outputs.items():
        error = difference(outputs[name], expected) if name in outputs else float("inf")
        rounding = float(np.finfo(expected.dtype).eps) if expected.dtype.kind == "f" else 0.0
        baseline = SOURCE_GRAPH.floor * (rounding / EPS32)
        if SOURCE_GRAPH.limit * baseline < error < float("inf"):
            changes = sensitive(source) if changes is None else changes
            baseline = max(baseline, changes[name]) if np.isfinite(changes[name]) else baseline
        kind = RANDOM if name in outputs and outputs[name].shape == expected.shape else SIZE
        yield Comparison(name, "output", kind, error, baseline, SOURCE_GRAPH.limit)


def _feeds(model: ir.Model, sizes: Sequence[int]) -> dict[str, Array] | str:
    """Random inputs, or why there can't be any. ``sizes`` are those of dynamic axes; one name has one size."""
    random = np.random.default_rng(sizes[-1])
    named: dict[str, int] = {}
    feeds: dict[str, Array] = {}
    for value in model.graph.inputs:
        if value.const_value is not None:  # an initializer that a caller may override
            continue
        shape = dims(value)
        if shape is None or value.dtype is None:
            return f"the shape of the input {value.name} isn't known"
        known = [_size(size, sizes[0] if axis == 0 else sizes[1 + axis % 2], named) for axis, size in enumerate(shape)]
        if value.dtype in FLOATS:
            feeds[str(value.name)] = random.standard_normal(known).astype(value.dtype.numpy())
        elif value.dtype in INTEGERS:
            feeds[str(value.name)] = random.integers(0, 2, known).astype(value.dtype.numpy())
        else:
            return f"the input {value.name} is of type {value.dtype.name}"
    return feeds


def _size(size: Dim, chosen: int, named: dict[str, int]) -> int:
    return size if isinstance(size, int) else chosen if size is None else named.setdefault(size, chosen)
