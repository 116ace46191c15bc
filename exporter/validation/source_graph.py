"""Whether a cleaned graph computes what its source graph computes.

Both run in ONNX Runtime without optimizations, on the same inputs: pictures and noise, or the user's images.
`cleanup.proof` verifies every rewrite alone in float64; this comparison finds errors that only the whole graph shows,
such as a wire to the wrong node. Outputs, gates and the ends of blocks are compared.

A detector may return nothing but rounding errors for most inputs. A comparison counts for something only where the
tolerance is far below the amount by which the tensor changes between inputs; see `POWER`.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import Dim
from attn_export.exporter.errors import InputError
from attn_export.exporter.graph.facts import dims, is_op, stored
from attn_export.exporter.graph.limits import MAX_ELEMENTS
from attn_export.exporter.graph.randomness import random_outputs
from attn_export.exporter.graph.session import PlainSession, SessionError
from attn_export.exporter.graph.tensors import MAX_RANK
from attn_export.exporter.network.batches import MOST_REAL
from attn_export.exporter.network.images import IMAGE_RANK, PICTURES, REAL, picture
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.records.policies import EPS32, SOURCE_GRAPH
from attn_export.exporter.records.verdict import SIZE, Comparison, Verdict
from attn_export.exporter.validation.inner_tensors import GATE, OUTPUT, Tensor, counterparts, inner_tensors
from attn_export.exporter.validation.metrics import STRESS_LENGTH, difference, perturbed

# Sizes of dynamic axes, (N, H, W). First the batch that files are usually traced with, and the first map with which the
# source graph runs; then as many other sizes as it takes.
FIRST = tuple((1, side, side) for side in (64, 224, 32))
MORE = ((5, 32, 64), (5, 0, 0), (1, 32, 64))  # N, and what is added to H and W
MIXED = "pictures"  # kind of input: a batch of all
# A tensor has to change between inputs by this many times the tolerance.
POWER = 10.0
# Of inner tensors so many elements are compared: those of a large network don't fit in memory all at once.
SAMPLED = 1 << 16
# Operators with weights, and the largest of these that are moved: those moved are kept in memory.
WEIGHTED, MOVED = ("Conv", "ConvTranspose", "Gemm", "MatMul"), 1 << 22
# All runs of the source graph get one of so many parts of the time for an inference: the cleaned graph needs as much.
SHARE = 3
FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)
INTEGERS = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.BOOL)
Feeds = dict[str, Array]


@dataclass(frozen=True)
class SourceRun:
    """Inputs and deterministic tensors of the source graph.

    Attributes:
        tensors: outputs as they are; gates and ends of blocks as `_sampled`.
    """

    kind: str
    feeds: Mapping[str, Array]
    tensors: Mapping[Tensor, Array]


class _Tapped:
    """A graph whose inner tensors are outputs too.

    ``wanted`` are the inner tensors; all of them by default.

    Raises:
        SessionError: ONNX Runtime rejects the graph.
    """

    def __init__(self, model: ir.Model, threads: int, folder: Path, wanted: set[Tensor] | None = None) -> None:
        tapped = model.clone()
        inner = inner_tensors(tapped) if wanted is None else counterparts(tapped, wanted)
        self._names = {Tensor(OUTPUT, str(value.name)): str(value.name) for value in tapped.graph.outputs}
        tapped.graph.outputs.extend(v for v in dict.fromkeys(inner.values()) if not v.is_graph_output())
        self.random = random_outputs(tapped)
        self._names |= {tensor: str(value.name) for tensor, value in inner.items()}
        session = PlainSession(tapped, threads, folder)
        self._run, self.at_most, self.seconds = session.run, session.at_most, session.seconds

    def run(self, feeds: Mapping[str, Array]) -> dict[Tensor, Array]:
        """The tensors that aren't random. Raises SessionError: ONNX Runtime can't run the graph on these inputs."""
        arrays = self._run(feeds)
        fetched = {tensor: arrays[name] for tensor, name in self._names.items() if name not in self.random}
        return {t: array if t.role == OUTPUT else _sampled(t, array) for t, array in fetched.items()}


def _sampled(tensor: Tensor, array: Array) -> Array:
    """At most about `SAMPLED` elements of an inner tensor; of a gate without axes of one, which views add and drop."""
    array = np.squeeze(array) if tensor.role == GATE else array
    if array.size <= SAMPLED:
        return array.copy()
    return np.ascontiguousarray(array.reshape(-1)[:: array.size // SAMPLED | 1])


def run_source(
    model: ir.Model, folder: Path, threads: int, images: Arrays | None = None
) -> tuple[SourceRun, ...] | str:
    """Run a graph on pictures and noise, every dynamic axis at two sizes if it takes them; or say why it doesn't run.

    Raises:
        InputError: the graph doesn't run on the user's images.
    """
    random = random_outputs(model)
    if len(random) == len({value.name for value in model.graph.outputs}):
        return f"all outputs depend on random numbers ({next(iter(random.values()))})"
    try:
        session = _Tapped(model, threads, folder)
    except SessionError as error:
        return f"ONNX Runtime doesn't take the file: {error}"
    try:
        with session.at_most(session.seconds / SHARE):
            return _source_runs(session, model, images)
    except MemoryError:
        return "its inputs and outputs need more memory than a file of its size gets"


def _source_runs(session: _Tapped, model: ir.Model, images: Arrays | None) -> tuple[SourceRun, ...] | str:
    kind, *kinds = PICTURES
    sizes, first = _first_that_runs(session, model, FIRST, kind)
    if isinstance(first, str):
        return first
    side = sizes[1]
    others = [(batch, side + height, side + width) for batch, height, width in MORE]
    others = [size for size in others if _shapes(_feeds(model, size, kind)) != _shapes(first.feeds)]
    _, second = _first_that_runs(session, model, others, MIXED)
    same = [_first_that_runs(session, model, [sizes], kind)[1] for kind in kinds]
    real = _real_runs(session, images, first.feeds)
    return tuple(run for run in (first, *same, *real, second) if isinstance(run, SourceRun))


def _first_that_runs(
    session: _Tapped, model: ir.Model, sizes: Sequence[tuple[int, int, int]], kind: str
) -> tuple[tuple[int, int, int], SourceRun | str]:
    """The first of these sizes with which the graph runs, or why there is none."""
    reason = ""
    for size in sizes:
        feeds = _feeds(model, size, kind)
        if isinstance(feeds, str):
            return size, feeds
        try:
            return size, SourceRun(kind, feeds, session.run(feeds))
        except SessionError as error:
            reason = f"ONNX Runtime can't run the file on random inputs: {error}"
    return (0, 0, 0), reason


def _shapes(feeds: Mapping[str, Array] | str) -> list[tuple[int, ...]]:
    return [] if isinstance(feeds, str) else [array.shape for array in feeds.values()]


def _real_runs(session: _Tapped, images: Arrays | None, first: Arrays) -> list[SourceRun]:
    """The user's images, at most `MOST_REAL`, each filling a batch."""
    count = min(map(len, images.values())) if images else 0
    chosen = np.unique(np.linspace(0, max(count - 1, 0), min(count, MOST_REAL)).astype(int))
    feeds = [{n: np.repeat(a[i : i + 1], len(first[n]), axis=0) for n, a in (images or {}).items()} for i in chosen]
    try:
        return [SourceRun(REAL, batch, session.run(batch)) for batch in feeds]
    except SessionError as error:
        raise InputError(
            f"ONNX Runtime can't run the file on these images: {error}", hint="Does the network take their size?"
        ) from error


def run_perturbed(source: SourceRun, model: ir.Model, folder: Path, threads: int) -> dict[Tensor, Array]:
    """The tensors of a graph when every input and every weight moves by one rounding. Changes the model.

    Pixels alone aren't enough: their roundings cancel out in a sum over the map, and those of the sum don't.
    """
    read = (value for node in model.graph if is_op(node, *WEIGHTED) for value in node.inputs)
    for value in dict.fromkeys(value for value in read if value is not None and value.is_initializer()):
        weight = stored(value)
        if weight is not None and weight.size <= MOVED:
            value.const_value = ir.tensor(perturbed(weight), name=value.name)
    return _Tapped(model, threads, folder).run({name: perturbed(array) for name, array in source.feeds.items()})


def compare_with_source(
    runs: Sequence[SourceRun],
    cleaned: ir.Model,
    folder: Path,
    threads: int,
    run_again: Callable[[SourceRun], Mapping[Tensor, Array]],
) -> Verdict | str:
    """Run a cleaned graph on its source's inputs and compare the outputs, gates and ends of blocks that both have.

    ``run_again`` is `run_perturbed` of the source, called only where the floor doesn't explain the difference. Where
    the cleaned graph doesn't run, the result is the reason.
    """
    known = _scales(runs)
    found: dict[Tensor, list[Comparison]] = {}
    try:
        session = _Tapped(cleaned, threads, folder, set(known))
        for source in runs:
            for tensor, comparison in _comparisons(source, session.run(source.feeds), known, run_again):
                found.setdefault(tensor, []).append(comparison)
    except SessionError as failure:
        return f"the cleaned graph doesn't run: {failure}"
    gates = [tensor for tensor in known if tensor.role == GATE]
    missed = sum(tensor not in found for tensor in gates)
    ordered = sorted(found, key=lambda tensor: tensor.role == OUTPUT)
    return SOURCE_GRAPH.verdict(
        "onnxruntime",
        [_worst(found[tensor]) for tensor in ordered],
        (tuple(array.shape for array in source.feeds.values()) for source in runs),
        images=len(runs),
        gates_missed=f"{missed} of {len(gates)} have no counterpart in the cleaned graph" if missed else "",
    )


@dataclass(frozen=True)
class _Scale:
    """How large a tensor is, and how far it moves.

    Attributes:
        rms: the largest root mean square of all runs.
        change: the largest difference between inputs of equal shapes, relative to the larger one.
    """

    rms: float
    change: float


def _scales(runs: Sequence[SourceRun]) -> dict[Tensor, _Scale]:
    alike: dict[Any, list[SourceRun]] = defaultdict(list)
    for run in runs:
        alike[tuple(_shapes(run.feeds))].append(run)
    scales = {}
    for tensor in runs[0].tensors:
        change = 0.0
        for first, *others in alike.values():
            pairs = ((first.tensors[tensor], run.tensors[tensor]) for run in others)
            change = max([change, *(difference(*sorted(pair, key=_rms)) for pair in pairs)])
        scales[tensor] = _Scale(max(_rms(run.tensors[tensor]) for run in runs), change)
    return scales


def _rms(array: Array) -> float:
    numbers = array[np.isfinite(array)].astype(np.float64) if array.dtype.kind in "fiub" else np.zeros(0)
    return float(np.sqrt(np.square(numbers).mean())) if numbers.size else 0.0


def _comparisons(
    source: SourceRun,
    tensors: Mapping[Tensor, Array],
    scales: Mapping[Tensor, _Scale],
    run_again: Callable[[SourceRun], Mapping[Tensor, Array]],
) -> Iterator[tuple[Tensor, Comparison]]:
    moved = None
    for tensor, expected in source.tensors.items():
        computed = tensors.get(tensor)
        if tensor.role != OUTPUT and (computed is None or computed.shape != expected.shape):
            continue  # the cleaned graph has it in another form
        least = STRESS_LENGTH * scales[tensor].rms
        error = float("inf") if computed is None else difference(computed, expected, least=least)
        rounding = float(np.finfo(expected.dtype).eps) if expected.dtype.kind == "f" else 0.0
        baseline = SOURCE_GRAPH.floor * (rounding / EPS32)
        if SOURCE_GRAPH.limit * baseline < error < float("inf"):
            moved = run_again(source) if moved is None else moved
            change = difference(moved[tensor], expected, least=least)
            baseline = max(baseline, change) if np.isfinite(change) else baseline
        kind = source.kind if computed is not None and computed.shape == expected.shape else SIZE
        has_power = POWER * SOURCE_GRAPH.limit * baseline < scales[tensor].change
        yield (
            tensor,
            Comparison(tensor.name, tensor.role, kind, error, baseline, SOURCE_GRAPH.limit, has_power=has_power),
        )


def _worst(comparisons: Sequence[Comparison]) -> Comparison:
    """The comparison with the largest error ratio, of those that disagree or have power if there are any."""
    counted = [c for c in comparisons if c.has_power or not c.agrees]
    return max(counted or comparisons, key=lambda c: c.severity)


def _feeds(model: ir.Model, sizes: Sequence[int], kind: str) -> Feeds | str:
    """Inputs, or why there can't be any.

    Sizes of dynamic axes are (N, H, W); one name has one size. ``kind`` may be `MIXED`, all kinds in turn.
    """
    draw = np.random.default_rng([sizes[-1], *kind.encode()])
    named: dict[str, int] = {}
    feeds: Feeds = {}
    for value in model.graph.inputs:
        if value.const_value is not None:  # an initializer that a caller may override
            continue
        shape = dims(value)
        if shape is None or value.dtype is None:
            return f"the shape of the input {value.name} isn't known"
        known = [_size(size, sizes[0] if axis == 0 else sizes[1 + axis % 2], named) for axis, size in enumerate(shape)]
        if len(known) > MAX_RANK or math.prod(known) > MAX_ELEMENTS or min(known, default=0) < 0:
            return f"the input {value.name} has impossible sizes"
        if value.dtype in FLOATS:
            feeds[str(value.name)] = _pictures(known, kind, draw).astype(value.dtype.numpy())
        elif value.dtype in INTEGERS:
            feeds[str(value.name)] = draw.integers(0, 2, known).astype(value.dtype.numpy())
        else:
            return f"the input {value.name} is of type {value.dtype.name}"
    return feeds


def _pictures(shape: Sequence[int], kind: str, draw: np.random.Generator) -> Array:
    """(N, C, H, W) of a kind; other shapes are filled with noise."""
    if len(shape) != IMAGE_RANK + 1 or not all(shape):
        return draw.standard_normal(shape)
    kinds = [*PICTURES] if kind == MIXED else [kind]
    image = (shape[1], shape[2], shape[3])
    return np.stack([picture(kinds[row % len(kinds)], image, draw) for row in range(shape[0])])


def _size(size: Dim, chosen: int, named: dict[str, int]) -> int:
    return size if isinstance(size, int) else chosen if size is None else named.setdefault(size, chosen)
