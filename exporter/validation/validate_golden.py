"""An artifact against the golden outputs of a bundle. Runs on the device, without torch."""

from collections.abc import Callable, Mapping

from attn_export.exporter.bundle.golden import GoldenVectors
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.policies import BUNDLE
from attn_export.exporter.records.verdict import SIZE, Comparison, Verdict
from attn_export.exporter.validation.metrics import PooledError

Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]


def validate_golden(
    golden: GoldenVectors, run: Run, runtime: str, advance: Callable[[], None] = lambda: None
) -> Verdict:
    """Compare an artifact with the golden outputs of a bundle, on every kind of input."""
    errors = {output: PooledError() for output in golden.limits}
    misshapen: set[str] = set()
    for group in golden.groups:
        for batch in group.batches:
            rows = list(batch)
            computed = run({name: array[rows] for name, array in group.arrays.items()})
            for output, expected in group.expected.items():
                exact = expected[rows]
                if output not in computed or computed[output].size != exact.size:
                    misshapen.add(output)
                else:
                    errors[output].add(computed[output], exact, tuple(group.kinds[i] for i in rows))
            advance()
    comparisons: list[Comparison] = []
    for output, limits in golden.limits.items():
        relative = errors[output].relative()
        if output in misshapen:
            limit = next(iter(limits.values()))
            comparisons.append(Comparison(output, "output", SIZE, None, limit.baseline, limit.limit))
            continue
        comparisons += [
            Comparison(output, "output", kind, relative[kind], limit.baseline, limit.limit)
            for kind, limit in limits.items()
            if kind in relative
        ]
    return Verdict(
        runtime,
        tuple(comparisons),
        golden.shapes,
        "a bundle has no reference for gates",
        sum(len(batch) for group in golden.groups for batch in group.batches),
        policy=BUNDLE.name,
        reference=golden.reference,
        baseline=golden.baseline,
    )
