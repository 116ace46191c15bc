"""An artifact against the reference outputs."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from attn_export.exporter.artifacts import Gate, OnnxFile, Precision
from attn_export.exporter.network.images import NOMINAL
from attn_export.exporter.network.run import Result
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.verdict import SIZE, Classes, Comparison, Verdict
from attn_export.exporter.runtimes import runtime_of_file
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.system.memory import trim
from attn_export.exporter.validation.metrics import DISCRETE, PooledError
from attn_export.exporter.validation.policies import POLICIES
from attn_export.exporter.validation.reference import Reference
from attn_export.exporter.validation.verdict import compare, pixels_of, shape_name

Computed = list[tuple[Array, ...]]  # for every batch, one array per tensor
SCORES_RANK = 2  # (N, classes)


def validate(
    file: OnnxFile,
    reference: Reference,
    settings: Settings,
    advance: Callable[[], None] = lambda: None,
) -> Verdict:
    """Run the file as it is, and once more with its gates as outputs, on every batch of the reference.

    Args:
        file: its outputs are judged exactly as a user will get them.
        reference: of the network it came from.
        settings: for the runtime.
        advance: called after every batch.

    Returns:
        The verdict. It is the caller who fails.

    Raises:
        RuntimeUnavailableError: its runtime can't run the file.
        ValueError: the reference wasn't computed for the file's precision.
    """
    if file.precision not in reference.baselines:
        raise ValueError(f"the reference has no baseline for {file.precision}")
    names = file.signature.output_names
    runtime = runtime_of_file(file, settings)
    outputs = _run(runtime, names, reference, advance)
    comparisons = [
        _compared(name, "output", i, outputs, lambda r: r.outputs, reference, file.precision)
        for i, name in enumerate(names)
    ]
    gates, missed = paired(reference.exact[0].gate_paths, file.gates)
    if gates:
        taps = [gate.tensor for gate in gates]
        values = _run(runtime_of_file(file, settings, taps), taps, reference, advance)
        comparisons = [
            _compared(path, "gate", i, values, lambda r: r.gates, reference, file.precision)
            for i, path in enumerate(reference.exact[0].gate_paths)
        ] + comparisons
    return _verdict(runtime, file.precision, comparisons, missed, outputs, reference)


def validate_outputs(
    runtime: Runtime, precision: Precision, reference: Reference, advance: Callable[[], None] = lambda: None
) -> Verdict:
    """The same for an artifact whose gates can't be looked at without changing what runs: an engine.

    Args:
        runtime: not open yet.
        precision: of the artifact.
        reference: with batches that the artifact takes, at least one.
        advance: called after every batch.

    Returns:
        The verdict on the outputs. It is the caller who fails.

    Raises:
        RuntimeUnavailableError: it can't run the artifact.
    """
    names = runtime.signature.output_names
    outputs = _run(runtime, names, reference, advance)
    comparisons = [
        _compared(name, "output", i, outputs, lambda r: r.outputs, reference, precision) for i, name in enumerate(names)
    ]
    missed = "more outputs would change which kernels it has" if reference.exact[0].gate_paths else ""
    return _verdict(runtime, precision, comparisons, missed, outputs, reference)


def _verdict(
    runtime: Runtime,
    precision: Precision,
    comparisons: Sequence[Comparison],
    missed: str,
    outputs: Computed,
    reference: Reference,
) -> Verdict:
    policy = POLICIES[precision]
    return Verdict(
        runtime.name,
        tuple(comparisons),
        tuple(dict.fromkeys(tuple(batch.images.shape) for batch in reference.batches)),
        missed,
        sum(len(batch.images) for batch in reference.batches),
        classes_of(outputs, reference),
        policy.name,
        policy.reference,
        policy.baseline,
    )


def classes_of(computed: Computed, reference: Reference) -> Classes | None:
    """Whether the first output, scores (N, classes), has its largest in the same place; None for another output."""
    images = differ = 0
    for batch, arrays, exact in zip(reference.batches, computed, reference.exact, strict=True):
        scores = exact.outputs[0]
        if (
            scores.dtype.kind in DISCRETE
            or scores.ndim != SCORES_RANK
            or scores.shape[1] < 2
            or arrays[0].size != scores.size
        ):
            return None
        ordinary = [i for i, kind in enumerate(batch.kinds) if kind in NOMINAL]
        got = arrays[0].reshape(scores.shape)
        images += len(ordinary)
        differ += int((got.argmax(1) != scores.argmax(1))[ordinary].sum())
    return Classes(images, differ)


def paired(paths: Sequence[str], gates: Sequence[Gate]) -> tuple[list[Gate], str]:
    """The file's gates in the order of PyTorch's, or none and the reason.

    They are matched by module path, and by order where a module has several or the file doesn't know the paths.
    """
    if not paths:
        return [], ""
    if len(paths) != len(gates):
        return [], f"PyTorch computes {len(paths)} gates, the file {len(gates)}"
    if Counter(paths) == Counter(gate.module_path for gate in gates):
        waiting = list(gates)
        return [waiting.pop([gate.module_path for gate in waiting].index(path)) for path in paths], ""
    if any(gate.module_path for gate in gates):
        return [], "the file's gates belong to other modules than PyTorch's"
    return list(gates), ""


def _run(runtime: Runtime, names: Sequence[str], reference: Reference, advance: Callable[[], None]) -> Computed:
    computed = []
    with runtime:
        for batch in reference.batches:
            results = runtime.run({runtime.signature.input_name: batch.images})
            computed.append(tuple(results[name] for name in names))
            advance()
    trim()
    return computed


def _compared(
    tensor: str,
    role: str,
    index: int,
    computed: Computed,
    pick: Callable[[Result], tuple[Array, ...]],
    reference: Reference,
    precision: Precision,
) -> Comparison:
    error, baseline, policy = PooledError(), PooledError(), POLICIES[precision]
    by_shape: dict[str, PooledError] = defaultdict(PooledError)
    for batch, arrays, exact, own in zip(
        reference.batches, computed, reference.exact, reference.baselines[precision], strict=True
    ):
        expected = pick(exact)[index]
        if arrays[index].size != expected.size:
            return Comparison(tensor, role, SIZE, None, policy.floor, policy.limit)
        by_shape[shape_name(batch.images.shape)].add(arrays[index], expected, batch.kinds)
        baseline.add(pick(own)[index], expected, batch.kinds)
    least = policy.gate_logits if role == "gate" else 0.0
    pixels = pixels_of(batch.images.shape for batch in reference.batches)
    for part in by_shape.values():
        error.add_all(part)
    if expected.dtype.kind in DISCRETE:
        policy = replace(policy, floor=max(policy.floor, error.stray() / policy.limit))
    shapes = {shape: part.relative(least) for shape, part in by_shape.items()}
    return compare(
        tensor, role, error.relative(least), baseline.relative(least), policy, pixels=pixels, by_shape=shapes
    )
