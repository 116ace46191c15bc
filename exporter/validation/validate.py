"""An artifact against the reference outputs."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from msgspec import structs

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
NAMED = 4  # gates that a message names


def validate(
    file: OnnxFile, reference: Reference, settings: Settings, advance: Callable[[], None] = lambda: None
) -> Verdict:
    """Run the file as it is, and once more with its gates as outputs, on every batch; the verdict may disagree.

    Raises:
        RuntimeUnavailableError: the runtime can't run the file.
        ValueError: the reference has no baseline for the file's precision.
    """
    if file.precision not in reference.baselines:
        raise ValueError(f"the reference has no baseline for {file.precision}")
    verdict = validate_outputs(runtime_of_file(file, settings), file.precision, reference, advance)
    paths, comparisons = reference.exact[0].gate_paths, verdict.comparisons
    gates, missed = paired(paths, file.gates)
    if gates:
        tensors = [gate.tensor for gate in gates.values()]
        logits = _run(runtime_of_file(file, settings, tensors), tensors, reference, advance)
        names = {place: paths[place] for place in gates}
        comparisons = (*_compared("gate", names, logits, reference, file.precision), *comparisons)
    return structs.replace(verdict, comparisons=comparisons, gates_missed=missed)


def validate_outputs(
    runtime: Runtime, precision: Precision, reference: Reference, advance: Callable[[], None] = lambda: None
) -> Verdict:
    """The same for the outputs alone, as of an engine, which takes all batches: more would change its kernels.

    Raises:
        RuntimeUnavailableError: the runtime, which isn't open, can't run the artifact.
    """
    names = runtime.signature.output_names
    outputs = _run(runtime, names, reference, advance)
    return POLICIES[precision].verdict(
        runtime.name,
        _compared("output", dict(enumerate(names)), outputs, reference, precision),
        (batch.shapes for batch in reference.batches),
        images=sum(map(len, reference.batches)),
        gates_missed=ENGINE_UNAVAILABLE if reference.exact[0].gate_paths else "",
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


def paired(paths: Sequence[str], gates: Sequence[Gate]) -> tuple[dict[int, Gate], str]:
    """The file's gates by their places among PyTorch's, and the names of those without a counterpart.

    Module paths identify gates, the order those of one module. A module may compute its gate itself on one side, and by
    a submodule on the other. Where no gate of the file has a path, the order of all identifies them.
    """
    ours, theirs = Counter(paths), Counter(gate.module_path for gate in gates)
    found: dict[int, Gate] = {}
    left = list(gates)
    for place, path in enumerate(paths):
        if ours[path] == theirs[path]:
            found[place] = next(gate for gate in left if gate.module_path == path)
            left.remove(found[place])
    unmatched = [place for place in range(len(paths)) if place not in found]
    for place in list(unmatched):
        near = [gate for gate in left if _contains(paths[place], gate.module_path)]
        if len(near) == 1 and sum(_contains(paths[other], near[0].module_path) for other in unmatched) == 1:
            found[place] = near[0]
            left.remove(near[0])
    unmatched = [place for place in unmatched if place not in found]
    if len(unmatched) == len(left) and not any(gate.module_path for gate in left):
        found |= zip(unmatched, left, strict=True)
        unmatched, left = [], []
    return dict(sorted(found.items())), _missed([paths[place] for place in unmatched], left)


def _contains(first: str, second: str) -> bool:
    """Whether one of two modules is a part of the other."""
    shorter, longer = sorted((first, second), key=len)
    return bool(shorter) and longer.startswith(f"{shorter}.")


def _missed(paths: Sequence[str], gates: Sequence[Gate]) -> str:
    reasons = []
    if paths:
        reasons.append(
            f"PyTorch's gates of {_names([path or 'the network' for path in paths])} aren't found in the file"
        )
    if gates:
        names = [f"{gate.tensor} (of {gate.module_path})" if gate.module_path else gate.tensor for gate in gates]
        reasons.append(f"the file's gates {_names(names)} aren't found in PyTorch")
    return "; ".join(reasons)


def _names(names: Sequence[str]) -> str:
    """The first of them."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _run(runtime: Runtime, names: Sequence[str], reference: Reference, advance: Callable[[], None]) -> Computed:
    computed = []
    with runtime:
        for batch in reference.batches:
            results = runtime.run(runtime.signature.feeds(batch.arrays))
            computed.append(tuple(results[name] for name in names))
            advance()
    trim()
    return computed


def _compared(
    role: str, names: Mapping[int, str], computed: Computed, reference: Reference, precision: Precision
) -> list[Comparison]:
    """The comparisons of computed tensors, each with the reference's tensor at its place."""
    return [
        compare_arrays(
            name,
            role,
            [arrays[i] for arrays in computed],
            [result.of(role)[place] for result in reference.exact],
            [result.of(role)[place] for result in reference.baselines[precision]],
            reference.batches,
            POLICIES[precision],
        )
        for i, (place, name) in enumerate(names.items())
    ]
