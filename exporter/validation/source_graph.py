"""Whether a graph computes what the graph computes that it was made from.

Both run in ONNX Runtime, without its own optimizations, on the same random inputs. Every rewrite has been proven
before, in float64 and by itself (`cleanup.proof`); this catches what only shows in the whole: a wire that goes
elsewhere.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import Dim
from attn_export.exporter.errors import first_line
from attn_export.exporter.graph.facts import dims
from attn_export.exporter.graph.randomness import random_outputs
from attn_export.exporter.graph.read import skeleton
from attn_export.exporter.records.verdict import SIZE, Comparison, Verdict
from attn_export.exporter.validation.policies import EPS32, SOURCE_GRAPH

Array = np.ndarray[Any, Any]

RANDOM = "random"  # kind of input
# Sizes of dynamic axes, (N, H, W). First the batch that files are usually traced with, and the first map with which the
# source graph runs; then as many other sizes as it takes.
FIRST = tuple((1, side, side) for side in (64, 224, 32))
MORE = ((5, 32, 64), (5, 0, 0), (1, 32, 64))  # N, and what is added to H and W
FLOATS = {ir.DataType.FLOAT: np.float32, ir.DataType.DOUBLE: np.float64, ir.DataType.FLOAT16: np.float16}
WHOLE = {
    ir.DataType.INT64: np.int64,
    ir.DataType.INT32: np.int32,
    ir.DataType.UINT8: np.uint8,
    ir.DataType.INT8: np.int8,
}


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
        session = _session(model, folder, threads)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime raises RuntimeError and a dozen classes of its own
        return f"ONNX Runtime doesn't take the file: {first_line(error)}"
    feeds = [_feeds(model, sizes) for sizes in FIRST]
    first = _first_that_runs(session, feeds, random)
    if isinstance(first, str):
        return first
    index = next(i for i, tried in enumerate(feeds) if tried is first.feeds)
    side = FIRST[index][1]
    others = [_feeds(model, (batch, side + height, side + width)) for batch, height, width in MORE]
    second = _first_that_runs(session, [tried for tried in others if _shapes(tried) != _shapes(first.feeds)], random)
    return (first,) if isinstance(second, str) else (first, second)


def _first_that_runs(session: Any, feeds: Sequence[dict[str, Array] | str], random: Collection[str]) -> SourceRun | str:
    reason = ""
    for tried in feeds:
        if isinstance(tried, str):
            return tried
        try:
            outputs = _run(session, tried)
        except Exception as error:  # noqa: BLE001
            reason = f"ONNX Runtime can't run the file on random inputs: {first_line(error)}"
            continue
        return SourceRun(tried, {name: array for name, array in outputs.items() if name not in random})
    return reason


def _shapes(feeds: Mapping[str, Array] | str) -> list[tuple[int, ...]]:
    return [] if isinstance(feeds, str) else [array.shape for array in feeds.values()]


def run(model: ir.Model, folder: Path, threads: int, feeds: Mapping[str, Array]) -> dict[str, Array] | str:
    """What a graph answers to these inputs, or why it doesn't run."""
    try:
        return _run(_session(model, folder, threads), feeds)
    except Exception as error:  # noqa: BLE001
        return first_line(error)


def sensitivity(source: SourceRun, model: ir.Model, folder: Path, threads: int) -> dict[str, float]:
    """The relative change of each output of a graph when every input moves by one rounding."""
    moved = {name: _moved(array) for name, array in source.feeds.items()}
    outputs = _run(_session(model, folder, threads), moved)
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
        session = _session(cleaned, folder, threads)
        for source in runs:
            for found in _comparisons(source, _run(session, source.feeds), sensitive):
                known = comparisons.get(found.tensor)
                if known is None or found.severity > known.severity:
                    comparisons[found.tensor] = found
    except Exception as failure:  # noqa: BLE001
        return f"the cleaned graph doesn't run: {first_line(failure)}"
    return Verdict(
        "onnxruntime",
        tuple(comparisons.values()),
        tuple(dict.fromkeys(tuple(array.shape) for source in runs for array in source.feeds.values())),
        "a cleaned graph has other gates than its source",
        len(runs),
        policy=SOURCE_GRAPH.name,
        reference=SOURCE_GRAPH.reference,
        baseline=SOURCE_GRAPH.baseline,
    )


def _comparisons(
    source: SourceRun, outputs: Mapping[str, Array], sensitive: Callable[[SourceRun], Mapping[str, float]]
) -> Iterator[Comparison]:
    moved = None
    for name, expected in source.outputs.items():
        error = difference(outputs[name], expected) if name in outputs else float("inf")
        rounding = float(np.finfo(expected.dtype).eps) if expected.dtype.kind == "f" else 0.0
        baseline = SOURCE_GRAPH.floor * (rounding / EPS32)
        if SOURCE_GRAPH.limit * baseline < error < float("inf"):
            moved = sensitive(source) if moved is None else moved
            baseline = max(baseline, moved[name]) if np.isfinite(moved[name]) else baseline
        kind = RANDOM if name in outputs and outputs[name].shape == expected.shape else SIZE
        yield Comparison(name, "output", kind, error, baseline, SOURCE_GRAPH.limit)


def difference(got: Array, expected: Array) -> float:
    """Relative, in the 2-norm; infinite where the shapes or the places of NaN and infinity differ."""
    if got.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(got, expected) else float("inf")
    a, b = got.astype(np.float64), expected.astype(np.float64)
    strange = ~np.isfinite(b)
    if not np.array_equal(a[strange], b[strange], equal_nan=True):
        return float("inf")
    a, b = a[~strange], b[~strange]
    apart, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    return apart / size if size else (0.0 if apart == 0 else float("inf"))


def _session(model: ir.Model, folder: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    return onnxruntime.InferenceSession(skeleton(model, folder), options, providers=["CPUExecutionProvider"])


def _run(session: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
    names = [output.name for output in session.get_outputs()]
    return {name: np.asarray(array) for name, array in zip(names, session.run(names, dict(feeds)), strict=True)}


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
            feeds[str(value.name)] = random.standard_normal(known).astype(FLOATS[value.dtype])
        elif value.dtype in WHOLE:
            feeds[str(value.name)] = random.integers(0, 2, known).astype(WHOLE[value.dtype])
        elif value.dtype == ir.DataType.BOOL:
            feeds[str(value.name)] = random.integers(0, 2, known).astype(np.bool_)
        else:
            return f"the input {value.name} is of type {value.dtype.name}"
    return feeds


def _size(size: Dim, chosen: int, named: dict[str, int]) -> int:
    return size if isinstance(size, int) else chosen if size is None else named.setdefault(size, chosen)


def _moved(array: Array) -> Array:
    """Every number moved by one rounding, up or down."""
    if array.dtype.kind != "f":
        return array
    signs = np.random.default_rng(1).integers(0, 2, array.shape) * 2 - 1
    return np.asarray(array * (1 + signs * np.finfo(array.dtype).eps), dtype=array.dtype)
