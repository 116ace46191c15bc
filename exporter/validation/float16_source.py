"""Whether a float16 file computes what its float32 parent computes, where there is no checkpoint to go by.

Both run in ONNX Runtime on the same inputs. How far float16 may be off is asked of the parent: it runs once more with
its inputs and weights rounded to float16, and what that changes is the baseline. It lacks the roundings of what lies
between, and so does the file in ONNX Runtime on a CPU, which leaves out the conversions between operators: good files
stand at one time the baseline.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import ParsedFile
from attn_export.exporter.errors import DisagreementError, InputError
from attn_export.exporter.precision.rounding import overflows, rounded
from attn_export.exporter.records.verdict import SIZE, Comparison, Verdict, number
from attn_export.exporter.validation.policies import CONVERTED
from attn_export.exporter.validation.source_graph import Array, difference, run

ALL = "all"  # kinds of input together


def compare_with_parent(
    parent: ParsedFile, child: ParsedFile, feeds: Sequence[Mapping[str, Array]], threads: int
) -> Verdict:
    """Run both on the same inputs.

    Args:
        parent: in float32.
        child: made of it, with the same inputs and outputs.
        feeds: inputs by name, one mapping for each run; at least one.
        threads: of ONNX Runtime.

    Returns:
        The verdict, which agrees.

    Raises:
        InputError: the parent doesn't run, or rounding its weights changes its outputs so much that nothing can be told
            from them.
        DisagreementError: the child computes something else, or doesn't run.
    """
    exact = _answers(parent.model, parent.path, feeds, threads)
    if isinstance(exact, str):
        raise InputError(f"ONNX Runtime can't run {parent.path}: {exact}", hint="Nothing can be compared then.")
    coarse = _answers(_rounded(parent.copy()), parent.path, [_rounded_feed(feed) for feed in feeds], threads)
    got = _answers(child.model, child.path, feeds, threads)
    if isinstance(got, str):
        raise DisagreementError(f"the float16 file of {parent.path} doesn't run: {got}", first_seen="all", hint=HINT)
    found = []
    for name, expected in exact.items():
        baseline = _apart(coarse[name], expected) if not isinstance(coarse, str) else float("inf")
        if not baseline <= CONVERTED.largest_baseline:
            raise InputError(
                f"rounding the weights of {parent.path} to float16 changes {name} by {baseline:.1e}: with such a "
                "baseline error nothing can be proven",
                hint="Export the checkpoint in float16 instead: there the network itself is the judge.",
            )
        error = _apart(got[name], expected) if name in got else float("inf")
        kind = ALL if name in got else SIZE
        found.append(Comparison(name, "output", kind, error, max(CONVERTED.floor, baseline), CONVERTED.limit))
    verdict = Verdict(
        "onnxruntime",
        tuple(found),
        tuple(dict.fromkeys(tuple(array.shape) for feed in feeds for array in feed.values())),
        "only outputs of a converted file are compared",
        len(feeds),
        policy=CONVERTED.name,
        reference=CONVERTED.reference,
        baseline=CONVERTED.baseline,
    )
    if not verdict.agrees:
        worst = verdict.worst
        ratio = "" if worst.ratio is None else f", error ratio {worst.ratio:.0f}"
        raise DisagreementError(
            f"the float16 file doesn't compute what {parent.path} computes: the error of {worst.tensor} is "
            f"{number(worst.error)}, rounding the weights changes it by {number(worst.baseline)}{ratio} "
            f"(max {worst.limit:.0f})",
            first_seen=worst.tensor,
            hint=HINT,
        )
    return verdict


HINT = "No file was written. Please report it with the file: the change to float16 or ONNX Runtime computes it wrong."


def _answers(
    model: ir.Model, path: Path, feeds: Sequence[Mapping[str, Array]], threads: int
) -> dict[str, list[Array]] | str:
    """By output, what every run gave; or why one failed."""
    found: dict[str, list[Array]] = {}
    for feed in feeds:
        outputs = run(model, path.parent, threads, feed)
        if isinstance(outputs, str):
            return outputs
        for name, array in outputs.items():
            found.setdefault(name, []).append(array)
    return found


def _apart(got: Sequence[Array], expected: Sequence[Array]) -> float:
    if [array.shape for array in got] != [array.shape for array in expected]:
        return float("inf")
    if not all(np.isfinite(array).all() for array in expected if array.dtype.kind == "f"):
        return float("inf")
    return difference(*(np.concatenate([array.reshape(-1) for array in arrays]) for arrays in (got, expected)))


def _rounded(model: ir.Model) -> ir.Model:
    """The graph with its float32 weights rounded, as float32 numbers; those that float16 can't hold as they are."""
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT:
            continue
        array = tensor.numpy()
        if not overflows(array):
            value.const_value = ir.Tensor(rounded(array).astype(np.float32), name=name)
    return model


def _rounded_feed(feed: Mapping[str, Array]) -> dict[str, Array]:
    return {
        name: rounded(array).astype(np.float32) if array.dtype == np.float32 else array for name, array in feed.items()
    }
