"""Where the error of an artifact that disagrees starts.

What the artifact computes at the ends of the network's blocks is compared like its outputs. More outputs may keep a
runtime from fusing what it fused wrongly, and then the fault is gone: in that case the graph is cut into prefixes that
end at a block, and the first one that disagrees is searched by halving.
"""

from collections.abc import Callable, Mapping, Sequence

from attn_export.exporter.artifacts import LoadedModel, OnnxFile
from attn_export.exporter.errors import AttnExportError
from attn_export.exporter.network.images import Batch
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.verdict import SIZE, Comparison, FirstDivergence
from attn_export.exporter.runtimes import runtime_of_file
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.validation.boundaries import Boundary, behind, boundaries_of, computed_by, fits, shapes_of
from attn_export.exporter.validation.metrics import PooledError
from attn_export.exporter.validation.policies import POLICIES
from attn_export.exporter.validation.reference import Reference
from attn_export.exporter.validation.verdict import compare, pixels_of

EXTRA_OUTPUTS, PREFIXES = "extra outputs", "prefixes of the graph"
# Makes a runtime of a file that returns these tensors: besides its own outputs, or instead of them.
Opener = Callable[[OnnxFile, Settings, Sequence[str], bool], Runtime]


def open_onnx(file: OnnxFile, settings: Settings, tensors: Sequence[str], instead: bool) -> Runtime:
    """The file's own runtime, with its optimizations."""
    return runtime_of_file(file, settings, tensors, only_extra=instead)


def find_first_divergence(
    file: OnnxFile,
    model: LoadedModel,
    reference: Reference,
    settings: Settings,
    opener: Opener = open_onnx,
    *,
    kind: str = "",
    may_tap: bool = True,
) -> FirstDivergence | None:
    """Find the first block of the network that the artifact computes otherwise.

    Args:
        file: that disagrees.
        model: that it was made of.
        reference: that it disagrees with.
        settings: of the runtime.
        opener: makes the runtime.
        kind: of image on which it disagrees; any if empty.
        may_tap: False goes straight to prefixes.

    Returns:
        The place; None where the file doesn't say which modules its nodes came from, or where every block agrees.
    """
    search = _Search(file, model, reference, settings, opener, kind)
    if not search.boundaries:
        return None
    try:
        start = search.by_extra_outputs() if may_tap else None
        return start or search.by_prefixes()
    except AttnExportError:  # it ran before; whatever keeps it from running so is no news about its error
        return None


class _Search:
    """One artifact on one batch of the reference."""

    def __init__(
        self,
        file: OnnxFile,
        model: LoadedModel,
        reference: Reference,
        settings: Settings,
        opener: Opener,
        kind: str = "",
    ) -> None:
        self.file, self.settings, self.opener = file, settings, opener
        self.batch = _batch(reference, kind)
        self.place = next(i for i, batch in enumerate(reference.batches) if batch is self.batch)
        self.reference = reference
        self.boundaries, self.behind, self.exact, self.own = _sides(file, model, self.batch)

    def by_extra_outputs(self) -> FirstDivergence | None:
        """All places in one run; None where the fault doesn't show in it."""
        names = self.file.signature.output_names
        results = self._run([b.tensor for b in self.boundaries], instead=False)
        outputs = [
            _compared(name, results[name], exact, own, self.batch, self.file)
            for name, exact, own in zip(
                names,
                self.reference.exact[self.place].outputs,
                self.reference.baselines[self.file.precision][self.place].outputs,
                strict=True,
            )
        ]
        compared = [self._at(b, results[b.tensor]) for b in self.boundaries]
        if all(c.agrees for c in (*outputs, *compared)):
            return None
        good = {b for b, c in zip(self.boundaries, compared, strict=True) if c.agrees}
        # A place that the cleanup moved may disagree though nothing is wrong: what comes from it agrees then. Some
        # of it agrees in any case: a gate that is wide open, or whose hidden units are never positive.
        bad = [b for b in self.boundaries if b not in good and 2 * len(self.behind[b] & good) <= len(self.behind[b])]
        if not bad:
            return None
        first = next(b for b in bad if not any(b in self.behind[other] for other in bad))
        before = [b for b in self.boundaries if b in good and first in self.behind[b]]
        place = self.boundaries.index(first)
        return self._start(place, compared[place], before[-1].place if before else "", EXTRA_OUTPUTS)

    def by_prefixes(self) -> FirstDivergence | None:
        """The first place whose prefix disagrees.

        Through some places everything goes that comes later: among these it is searched by halving, for what lies
        behind a fault disagrees too. Between two of them there are branches, which are looked at one by one.
        """
        necks = [b for b in self.boundaries if self._is_neck(b)]
        low, high = 0, len(necks)
        found: dict[Boundary, Comparison] = {}
        while low < high:
            middle = (low + high) // 2
            found[necks[middle]] = self._prefix(necks[middle])
            low, high = (middle + 1, high) if found[necks[middle]].agrees else (low, middle)
        before = necks[low - 1] if low else None
        begin = self.boundaries.index(before) + 1 if before else 0
        end = self.boundaries.index(necks[high]) + 1 if high < len(necks) else len(self.boundaries)
        for boundary in self.boundaries[begin:end]:
            comparison = found.get(boundary) or self._prefix(boundary)
            if not comparison.agrees:
                place = self.boundaries.index(boundary)
                return self._start(place, comparison, before.place if before else "", PREFIXES)
            before = boundary
        return None

    def _is_neck(self, boundary: Boundary) -> bool:
        """Whether everything else is computed before it or from it."""
        others = {other for other in self.boundaries if other.tensor != boundary.tensor}
        later = self.behind[boundary]
        return all(other in later or boundary in self.behind[other] for other in others)

    def _prefix(self, boundary: Boundary) -> Comparison:
        return self._at(boundary, self._run([boundary.tensor], instead=True)[boundary.tensor])

    def _start(self, i: int, comparison: Comparison, before: str, how: str) -> FirstDivergence:
        boundary = self.boundaries[i]
        return FirstDivergence(boundary.module_path, boundary.is_input, comparison, before, how)

    def _run(self, tensors: Sequence[str], *, instead: bool) -> Mapping[str, Array]:
        with self.opener(self.file, self.settings, list(dict.fromkeys(tensors)), instead) as runtime:
            return runtime.run({self.file.signature.input_name: self.batch.images})

    def _at(self, boundary: Boundary, computed: Array) -> Comparison:
        return _compared(boundary.place, computed, self.exact[boundary], self.own[boundary], self.batch, self.file)


def _batch(reference: Reference, kind: str) -> Batch:
    """The smallest that has images of this kind and of others, as far as there is such a one."""
    with_kind = [batch for batch in reference.batches if kind in batch.kinds] or list(reference.batches)
    several = [batch for batch in with_kind if len(set(batch.kinds)) > 1] or with_kind
    return min(several, key=lambda batch: batch.images.size)


def _sides(
    file: OnnxFile, model: LoadedModel, batch: Batch
) -> tuple[list[Boundary], dict[Boundary, set[Boundary]], Mapping[Boundary, Array], Mapping[Boundary, Array]]:
    """The places, which are computed from which, and what the network computes there in double and in the own type."""
    from attn_export.exporter.graph.read import parsed
    from attn_export.exporter.precision.float16 import infer_types

    graph = parsed(file).copy()
    infer_types(graph)
    found = boundaries_of(graph, model.module)
    known = shapes_of(graph, found)
    exact = computed_by(model.module, found, batch.images, None)
    own = computed_by(model.module, found, batch.images, file.precision)
    kept = [b for b in found if b in known and b in exact and b in own and fits(known[b], exact[b])]
    return kept, behind(graph, kept), exact, own


def _compared(name: str, computed: Array, exact: Array, own: Array, batch: Batch, file: OnnxFile) -> Comparison:
    policy = POLICIES[file.precision]
    if computed.size != exact.size:
        return Comparison(name, "output", SIZE, None, policy.floor, policy.limit)
    error, baseline = PooledError(), PooledError()
    error.add(computed, exact, batch.kinds)
    baseline.add(own, exact, batch.kinds)
    pixels = pixels_of([batch.images.shape])
    return compare(name, "output", error.relative(), baseline.relative(), policy, pixels=pixels)
