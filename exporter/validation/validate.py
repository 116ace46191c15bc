"""An artifact against the reference outputs."""

from collections import Counter
from collections.abc import Callable, Sequence

from attn_export.exporter.artifacts import Gate, OnnxFile, Precision
from attn_export.exporter.network.images import NOMINAL
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.gates import ENGINE_UNAVAILABLE
from attn_export.exporter.records.policies import POLICIES
from attn_export.exporter.records.verdict import Classes, Comparison, Verdict
from attn_export.exporter.runtimes import runtime_of_file
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.system.memory import trim
from attn_export.exporter.validation.metrics import DISCRETE
from attn_export.exporter.validation.reference import Reference
from attn_export.exporter.validation.verdict import compare_arrays

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
        file: the artifact.
        reference: of its network.
        settings: of the runtime.
        advance: called after every batch.

    Returns:
        The verdict, which may disagree.

    Raises:
        RuntimeUnavailableError: the runtime can't run the file.
        ValueError: the reference has no baseline for the file's precision.
    """
    if file.precision not in reference.baselines:
        raise ValueError(f"the reference has no baseline for {file.precision}")
    runtime = runtime_of_file(file, settings)
    outputs = _run(runtime, file.signature.output_names, reference, advance)
    comparisons = _compared("output", file.signature.output_names, outputs, reference, file.precision)
    paths = reference.exact[0].gate_paths
    gates, missed = paired(paths, file.gates)
    if gates:
        tensors = [gate.tensor for gate in gates]
        logits = _run(runtime_of_file(file, settings, tensors), tensors, reference, advance)
        comparisons = _compared("gate", paths, logits, reference, file.precision) + comparisons
    return _verdict(runtime, file.precision, comparisons, missed, outputs, reference)


def validate_outputs(
    runtime: Runtime, precision: Precision, reference: Reference, advance: Callable[[], None] = lambda: None
) -> Verdict:
    """The same for the outputs of an engine, because more outputs would change its kernels.

    Args:
        runtime: of the engine, not open.
        precision: of the engine.
        reference: with at least one batch, all of shapes that the engine takes.
        advance: called after every batch.

    Returns:
        The verdict on the outputs, which may disagree.

    Raises:
        RuntimeUnavailableError: the runtime can't run the engine.
    """
    names = runtime.signature.output_names
    outputs = _run(runtime, names, reference, advance)
    comparisons = _compared("output", names, outputs, reference, precision)
    missed = ENGINE_UNAVAILABLE if reference.exact[0].gate_paths else ""
    return _verdict(runtime, precision, comparisons, missed, outputs, reference)


def _verdict(
    runtime: Runtime,
    precision: Precision,
    comparisons: Sequence[Comparison],
    missed: str,
    outputs: Computed,
    reference: Reference,
) -> Verdict:
    return POLICIES[precision].verdict(
        runtime.name,
        comparisons,
        (batch.images.shape for batch in reference.batches),
        images=sum(len(batch.images) for batch in reference.batches),
        gates_missed=missed,
        classes=classes_of(outputs, reference),
    )


def classes_of(computed: Computed, reference: Reference) -> Classes | None:
    """Agreement of the largest score of the first output (N, classes); None for an output without classes."""
    images = differ = 0
    for batch, arrays, exact in zip(reference.batches, computed, reference.exact, strict=True):
        scores = exact.outputs[0]
        is_scores = scores.dtype.kind not in DISCRETE and scores.ndim == SCORES_RANK and scores.shape[1] > 1
        if not is_scores or arrays[0].size != scores.size:
            return None
        nominal = [i for i, kind in enumerate(batch.kinds) if kind in NOMINAL]
        images += len(nominal)
        differ += int((arrays[0].reshape(scores.shape).argmax(1) != scores.argmax(1))[nominal].sum())
    return Classes(images, differ)


def paired(paths: Sequence[str], gates: Sequence[Gate]) -> tuple[list[Gate], str]:
    """The file's gates in the order of PyTorch's, or none and the reason.

    Module paths identify gates. The order does where a module has several gates, or the file has no module paths.
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
    role: str, names: Sequence[str], computed: Computed, reference: Reference, precision: Precision
) -> list[Comparison]:
    return [
        compare_arrays(
            name,
            role,
            [arrays[i] for arrays in computed],
            [result.of(role)[i] for result in reference.exact],
            [result.of(role)[i] for result in reference.baselines[precision]],
            reference.batches,
            POLICIES[precision],
        )
        for i, name in enumerate(names)
    ]
