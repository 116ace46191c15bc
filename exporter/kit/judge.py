"""An artifact against a kit's sample: the same errors and the same limits as where the kit was written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from attn_export.exporter.kit.sample_file import Sample
from attn_export.exporter.runtimes.base import Array
from attn_export.exporter.validation.measured import Measured
from attn_export.exporter.validation.metrics import PooledError

Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]
INFINITE = float("inf")
# The kind of an output that can't be compared on any.
MISSHAPEN = "shape"


@dataclass(frozen=True)
class Judged(Measured):
    """One output on one kind of image.

    Attributes:
        output: its name.
        kind: of image; "shape" where the output isn't there, or is of another size.
        error: relative; infinite where something isn't a number.
        yardstick: the error that is taken for unavoidable.
        limit: how many times that it may be.
    """

    output: str
    kind: str
    error: float
    yardstick: float
    limit: float


@dataclass(frozen=True)
class Judgement:
    """All outputs.

    Attributes:
        runtime: what ran, in words.
        judged: by output and kind.
        batches: the shapes that ran.
    """

    runtime: str
    judged: tuple[Judged, ...]
    batches: tuple[tuple[int, ...], ...]

    @property
    def agrees(self) -> bool:
        """Whether every output does, on every kind of image."""
        return all(entry.agrees for entry in self.judged)

    @property
    def worst(self) -> Judged:
        """The one that is furthest from what is allowed."""
        return max(self.judged, key=lambda entry: entry.ratio / entry.limit)


def judge(sample: Sample, run: Run, runtime: str, advance: Callable[[], None] = lambda: None) -> Judgement:
    """Run every batch and compare.

    Args:
        sample: of the kit.
        run: arrays in, arrays out.
        runtime: what runs, in words.
        advance: called after every batch.
    """
    errors = {output: PooledError() for output in sample.limits}
    misshapen: set[str] = set()
    for group in sample.groups:
        for batch in group.batches:
            rows = list(batch)
            got = run({sample.input_name: group.images[rows]})
            for output, expected in group.expected.items():
                exact = expected[rows]
                if output not in got or got[output].size != exact.size:
                    misshapen.add(output)
                else:
                    errors[output].add(got[output], exact, tuple(group.kinds[i] for i in rows))
            advance()
    judged = []
    for output, limits in sample.limits.items():
        relative = errors[output].relative()
        if output in misshapen:
            limit = next(iter(limits.values()))
            judged.append(Judged(output, MISSHAPEN, INFINITE, limit.yardstick, limit.allowed))
            continue
        judged += [
            Judged(output, k, relative[k], lim.yardstick, lim.allowed) for k, lim in limits.items() if k in relative
        ]
    return Judgement(runtime, tuple(judged), sample.shapes)
