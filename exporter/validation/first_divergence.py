"""The first divergent layer of an artifact that disagrees.

The artifact's tensors at the ends of the network's blocks are compared like its outputs. Extra outputs can keep a
runtime from an optimization that is wrong, and hide the error. Then the graph is cut into prefixes that end at a block,
and bisection finds the first prefix that disagrees.
"""

from collections.abc import Callable, Mapping, Sequence

from attn_export.exporter.artifacts import LoadedModel, OnnxFile
from attn_export.exporter.errors import AttnExportError
from attn_export.exporter.graph.read import parsed
from attn_export.exporter.network.batches import Batch
from attn_export.exporter.precision.half import infer_types
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.policies import POLICIES
from attn_export.exporter.records.verdict import Comparison, FirstDivergence
from attn_export.exporter.runtimes import runtime_of_file
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.validation.boundaries import Boundary, boundaries_of, computed_by, later_than
from attn_export.exporter.validation.reference import Reference
from attn_export.exporter.validation.verdict import compare_arrays

EXTRA_OUTPUTS, PREFIXES = "extra outputs", "prefixes of the graph"
# Opens a runtime that returns these tensors of a file, in addition to its outputs, or (True) instead of them.
Opener = Callable[[OnnxFile, Settings, Sequence[str], bool], Runtime]


def open_onnx(file: OnnxFile, settings: Settings, tensors: Sequence[str], instead: bool) -> Runtime:
    """The file's usual runtime, with its optimizations."""
    return runtime_of_file(file, settings, tensors, only_extra=instead)


def find_first_divergence(
    file: OnnxFile,
    model: LoadedModel,
    reference: Reference,
    settings: Settings,
    opener: Opener = open_onnx,
    *,
    kind: str = "",
    extra_outputs: bool = True,
) -> FirstDivergence | None:
    """Find the first block of the network whose output the artifact computes wrong.

    ``kind`` is that of the images on which the artifact disagrees; without ``extra_outputs`` only prefixes are tried.

    Returns:
        The block; None where the file has no module paths, or every block agrees.
    """
    search = _Search(file, model, reference, settings, opener, kind)
    if not search.boundaries:
        return None
    try:
        return (search.by_extra_outputs() if extra_outputs else None) or search.by_prefixes()
    except AttnExportError:  # the artifact itself did run: a failure here says nothing about its error
        return None


class _Search:
    """One artifact on one batch of the reference."""

    def __init__(
        self, file: OnnxFile, model: LoadedModel, reference: Reference, settings: Settings, opener: Opener, kind: str
    ) -> None:
        self.file, self.settings, self.opener = file, settings, opener
        self.batch = _batch(reference, kind)
        index = next(i for i, batch in enumerate(reference.batches) if batch is self.batch)
        self.exact_outputs = reference.exact[index].outputs
        self.baseline_outputs = reference.baselines[file.precision][index].outputs
        graph = parsed(file).copy()
        infer_types(graph)
        found = boundaries_of(graph, model.module)
        self.exact = computed_by(model.module, found, self.batch, None, file.signature.least_batch)
        self.baseline = computed_by(model.module, found, self.batch, file.precision)
        self.boundaries = [b for b in found if b in self.baseline and b in self.exact and b.fits(self.exact[b])]
        self.later = later_than(graph, self.boundaries)

    def by_extra_outputs(self) -> FirstDivergence | None:
        """All boundaries in one run; None where the error doesn't appear in it."""
        names = self.file.signature.output_names
        results = self._run([b.tensor for b in self.boundaries], instead=False)
        outputs = [
            self._compared(name, results[name], exact, baseline)
            for name, exact, baseline in zip(names, self.exact_outputs, self.baseline_outputs, strict=True)
        ]
        compared = {b: self._at(b, results[b.tensor]) for b in self.boundaries}
        if all(c.agrees for c in (*outputs, *compared.values())):
            return None
        good = {b for b, comparison in compared.items() if comparison.agrees}
        # The cleanup may have moved a boundary, which then disagrees without an error: later boundaries agree. Some of
        # them always agree, such as the map behind a gate that is wide open or whose hidden units are never positive.
        bad = [b for b in self.boundaries if b not in good and 2 * len(self.later[b] & good) <= len(self.later[b])]
        if not bad:
            return None
        first = next(b for b in bad if not any(b in self.later[other] for other in bad))
        before = [b for b in self.boundaries if b in good and first in self.later[b]]
        return _divergence(first, compared[first], before[-1] if before else None, EXTRA_OUTPUTS)

    def by_prefixes(self) -> FirstDivergence | None:
        """The first boundary whose prefix disagrees.

        All later tensors depend on a bottleneck, and disagree if it does: bisection finds the first bottleneck that
        disagrees. The boundaries on the branches before it are then tried one by one.
        """
        necks = [b for b in self.boundaries if self._is_bottleneck(b)]
        low, high = 0, len(necks)
        known: dict[Boundary, Comparison] = {}
        while low < high:
            middle = (low + high) // 2
            known[necks[middle]] = self._prefix(necks[middle])
            low, high = (middle + 1, high) if known[necks[middle]].agrees else (low, middle)
        before = necks[low - 1] if low else None
        begin = self.boundaries.index(before) + 1 if before else 0
        end = self.boundaries.index(necks[high]) + 1 if high < len(necks) else len(self.boundaries)
        for boundary in self.boundaries[begin:end]:
            comparison = known.get(boundary) or self._prefix(boundary)
            if not comparison.agrees:
                return _divergence(boundary, comparison, before, PREFIXES)
            before = boundary
        return None

    def _is_bottleneck(self, boundary: Boundary) -> bool:
        """Whether every other boundary is computed before it or from it."""
        others = {other for other in self.boundaries if other.tensor != boundary.tensor}
        return all(other in self.later[boundary] or boundary in self.later[other] for other in others)

    def _prefix(self, boundary: Boundary) -> Comparison:
        return self._at(boundary, self._run([boundary.tensor], instead=True)[boundary.tensor])

    def _run(self, tensors: Sequence[str], *, instead: bool) -> Mapping[str, Array]:
        with self.opener(self.file, self.settings, list(dict.fromkeys(tensors)), instead) as runtime:
            return runtime.run(self.file.signature.feeds(self.batch.arrays))

    def _at(self, boundary: Boundary, computed: Array) -> Comparison:
        return self._compared(boundary.place, computed, self.exact[boundary], self.baseline[boundary])

    def _compared(self, name: str, computed: Array, exact: Array, baseline: Array) -> Comparison:
        policy = POLICIES[self.file.precision]
        return compare_arrays(name, "output", [computed], [exact], [baseline], [self.batch], policy)


def _divergence(boundary: Boundary, comparison: Comparison, before: Boundary | None, how: str) -> FirstDivergence:
    return FirstDivergence(boundary.module_path, boundary.is_input, comparison, before.place if before else "", how)


def _batch(reference: Reference, kind: str) -> Batch:
    """The smallest batch with images of this kind and of others, if there is one."""
    with_kind = [batch for batch in reference.batches if kind in batch.kinds] or list(reference.batches)
    several = [batch for batch in with_kind if len(set(batch.kinds)) > 1] or with_kind
    return min(several, key=lambda batch: sum(array.size for array in batch.arrays.values()))
