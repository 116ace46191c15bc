"""Where the error of an artifact that disagrees starts.

What the artifact computes at the ends of the network's blocks is compared like its outputs. More outputs may keep a
runtime from fusing what it fused wrongly, and then the fault is gone: in that case the graph is cut into prefixes that
end at a block, and the first one that disagrees is searched by halving.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from attn_export.exporter.artifacts import LoadedModel, OnnxFile
from attn_export.exporter.errors import AttnExportError
from attn_export.exporter.runtimes.base import Array, Runtime, Settings
from attn_export.exporter.validation.boundaries import Boundary, boundaries_of, computed_by, fits, shapes_of
from attn_export.exporter.validation.inputs import Batch
from attn_export.exporter.validation.metrics import PooledError
from attn_export.exporter.validation.oracle import Reference
from attn_export.exporter.validation.verdict import LIMITS, Comparison, compare, pixels_of

EXTRA_OUTPUTS, PREFIXES = "extra outputs", "prefixes of the graph"
# Makes a runtime of a file that returns these tensors: besides its own outputs, or instead of them.
Opener = Callable[[OnnxFile, Settings, Sequence[str], bool], Runtime]


@dataclass(frozen=True)
class Start:
    """Where an error is first seen.

    Attributes:
        module_path: of the block that leaves the yardstick.
        is_input: it is already what goes into this block.
        comparison: there.
        before: the last place before it that agrees; empty where none was looked at.
        how: by extra outputs, or by prefixes of the graph.
    """

    module_path: str
    is_input: bool
    comparison: Comparison
    before: str
    how: str

    def said(self) -> str:
        """Half a sentence."""
        found = self.comparison
        where = f"before {self.module_path}" if self.is_input else f"in {self.module_path}"
        told = f"the error starts {where}: {found.error:.1e} where PyTorch's own is {found.yardstick:.1e}"
        return f"{told}, and {self.before} still agrees" if self.before else told


def open_onnx(file: OnnxFile, settings: Settings, tensors: Sequence[str], instead: bool) -> Runtime:
    """ONNX Runtime, with its optimizations."""
    from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime

    return OnnxRuntime(file.path, file.signature, settings, tensors, only_extra=instead)


def where_it_starts(
    file: OnnxFile,
    model: LoadedModel,
    reference: Reference,
    settings: Settings,
    opener: Opener = open_onnx,
    *,
    may_tap: bool = True,
) -> Start | None:
    """Find the first block of the network that the artifact computes otherwise.

    Args:
        file: that disagrees.
        model: that it was made of.
        reference: that it disagrees with.
        settings: of the runtime.
        opener: makes the runtime.
        may_tap: False goes straight to prefixes.

    Returns:
        The place; None where the file doesn't say which modules its nodes came from, or where every block agrees.
    """
    search = _Search(file, model, reference, settings, opener)
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
        self, file: OnnxFile, model: LoadedModel, reference: Reference, settings: Settings, opener: Opener
    ) -> None:
        self.file, self.settings, self.opener = file, settings, opener
        self.batch = _batch(reference)
        self.place = next(i for i, batch in enumerate(reference.batches) if batch is self.batch)
        self.reference = reference
        self.boundaries, self.exact, self.own = _sides(file, model, self.batch)

    def by_extra_outputs(self) -> Start | None:
        """All places in one run; None where the fault doesn't show in it."""
        names = self.file.signature.output_names
        results = self._run([b.tensor for b in self.boundaries], instead=False)
        outputs = [
            _compared(name, results[name], exact, own, self.batch, self.file)
            for name, exact, own in zip(
                names,
                self.reference.exact[self.place].outputs,
                self.reference.yardsticks[self.file.precision][self.place].outputs,
                strict=True,
            )
        ]
        compared = [self._at(b, results[b.tensor]) for b in self.boundaries]
        if all(c.agrees for c in (*outputs, *compared)):
            return None
        # A place that the cleanup moved may disagree though nothing is wrong; the ones behind it agree again then.
        last_good = max((i for i, c in enumerate(compared) if c.agrees), default=-1)
        first = last_good + 1
        if first == len(compared):
            return None
        before = self.boundaries[last_good].place if last_good >= 0 else ""
        return self._start(first, compared[first], before, EXTRA_OUTPUTS)

    def by_prefixes(self) -> Start | None:
        """The first place whose prefix disagrees, by halving: what lies behind a fault disagrees too."""
        low, high = 0, len(self.boundaries)
        found: Comparison | None = None
        while low < high:
            middle = (low + high) // 2
            boundary = self.boundaries[middle]
            comparison = self._at(boundary, self._run([boundary.tensor], instead=True)[boundary.tensor])
            if comparison.agrees:
                low = middle + 1
            else:
                high, found = middle, comparison
        if found is None:
            return None
        return self._start(high, found, self.boundaries[high - 1].place if high else "", PREFIXES)

    def _start(self, i: int, comparison: Comparison, before: str, how: str) -> Start:
        boundary = self.boundaries[i]
        return Start(boundary.module_path, boundary.is_input, comparison, before, how)

    def _run(self, tensors: Sequence[str], *, instead: bool) -> Mapping[str, Array]:
        with self.opener(self.file, self.settings, list(dict.fromkeys(tensors)), instead) as runtime:
            return runtime.run({self.file.signature.input_name: self.batch.images})

    def _at(self, boundary: Boundary, computed: Array) -> Comparison:
        return _compared(boundary.place, computed, self.exact[boundary], self.own[boundary], self.batch, self.file)


def _batch(reference: Reference) -> Batch:
    """The smallest that has images of two kinds; all images of one size if there is no such."""
    several = [batch for batch in reference.batches if len(set(batch.kinds)) > 1]
    return min(several or reference.batches, key=lambda batch: batch.images.size)


def _sides(
    file: OnnxFile, model: LoadedModel, batch: Batch
) -> tuple[list[Boundary], Mapping[Boundary, Array], Mapping[Boundary, Array]]:
    """The places, and what the network computes there in double precision and in the artifact's own."""
    from attn_export.exporter.onnx_reader import read
    from attn_export.exporter.precision.float16 import infer_types

    graph = read(file.path)
    infer_types(graph)
    found = boundaries_of(graph, model.module)
    known = shapes_of(graph, found)
    del graph
    exact = computed_by(model.module, found, batch.images, None)
    own = computed_by(model.module, found, batch.images, file.precision)
    kept = [b for b in found if b in known and b in exact and b in own and fits(known[b], exact[b])]
    return kept, exact, own


def _compared(name: str, computed: Array, exact: Array, own: Array, batch: Batch, file: OnnxFile) -> Comparison:
    limits = LIMITS[file.precision]
    if computed.size != exact.size:
        return Comparison(name, "output", "shape", float("inf"), limits.floor, limits.ratio)
    error, yardstick = PooledError(), PooledError()
    error.add(computed, exact, batch.kinds)
    yardstick.add(own, exact, batch.kinds)
    return compare(name, "output", error.relative(), yardstick.relative(), limits, pixels_of([batch.images.shape]))
