"""Whether a float16 file computes what its float32 source computes, for files without a checkpoint.

Both run in ONNX Runtime on the same inputs. The baseline error is the change of the source's outputs when its inputs
and weights are rounded to float16. It lacks the rounding of intermediate results. So does the float16 file in ONNX
Runtime on a CPU, which drops the conversions between operators: good files have an error ratio of one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import ParsedFile
from attn_export.exporter.errors import DisagreementError, InputError
from attn_export.exporter.graph.session import PlainSession, SessionError
from attn_export.exporter.precision.rounding import overflows, rounded
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.policies import CONVERTED
from attn_export.exporter.records.verdict import Comparison, Verdict, number
from attn_export.exporter.validation.metrics import difference
from attn_export.exporter.validation.verdict import compare

ALL = "all"  # kinds of input together
HINT = "No file was written. Please report it with the file: the conversion to float16 or ONNX Runtime is wrong."

Outputs = dict[str, list[Array]]  # by name, one array per run


def compare_with_parent(
    parent: ParsedFile, child: ParsedFile, feeds: Sequence[Mapping[str, Array]], threads: int
) -> Verdict:
    """Run both on the same inputs.

    Args:
        parent: the float32 file.
        child: the float16 file, with the same inputs and outputs.
        feeds: inputs by name, one mapping per run; at least one.
        threads: of ONNX Runtime.

    Returns:
        The verdict, which agrees.

    Raises:
        InputError: the parent doesn't run, or its baseline error is too large to prove anything.
        DisagreementError: the child computes something else, or doesn't run.
    """
    exact = _outputs(parent.model, parent.path, feeds, threads)
    if isinstance(exact, str):
        raise InputError(f"ONNX Runtime can't run {parent.path}: {exact}", hint="Nothing can be compared then.")
    coarse = _outputs(_rounded(parent.copy()), parent.path, [_rounded_feed(feed) for feed in feeds], threads)
    computed = _outputs(child.model, child.path, feeds, threads)
    if isinstance(computed, str):
        raise DisagreementError(
            f"the float16 file of {parent.path} doesn't run: {computed}", first_seen="all", hint=HINT
        )
    verdict = CONVERTED.verdict(
        "onnxruntime",
        [_compared(name, computed, exact, coarse, parent.path) for name in exact],
        (tuple(array.shape for array in feed.values()) for feed in feeds),
        images=len(feeds),
        gates_missed="only outputs of a converted file are compared",
    )
    if not verdict.agrees:
        raise _disagreement(parent.path, verdict.worst)
    return verdict


def _compared(name: str, computed: Outputs, exact: Outputs, coarse: Outputs | str, parent: Path) -> Comparison:
    baseline = float("inf") if isinstance(coarse, str) else _difference(coarse[name], exact[name])
    if not baseline <= CONVERTED.largest_baseline:
        raise InputError(
            f"rounding the weights of {parent} to float16 changes {name} by {baseline:.1e}: with such a baseline "
            "error nothing can be proven",
            hint="Export the checkpoint in float16 instead: there the network itself is the reference.",
        )
    if name not in computed:
        return CONVERTED.misshapen(name)
    return compare(name, "output", {ALL: _difference(computed[name], exact[name])}, {ALL: baseline}, CONVERTED)


def _disagreement(parent: Path, worst: Comparison) -> DisagreementError:
    ratio = "" if worst.ratio is None else f", error ratio {worst.ratio:.0f}"
    return DisagreementError(
        f"the float16 file doesn't compute what {parent} computes: the error of {worst.tensor} is "
        f"{number(worst.error)}, rounding the weights changes it by {number(worst.baseline)}{ratio} "
        f"(max {worst.limit:.0f})",
        first_seen=worst.tensor,
        hint=HINT,
    )


def _outputs(model: ir.Model, path: Path, feeds: Sequence[Mapping[str, Array]], threads: int) -> Outputs | str:
    """The outputs of all runs, or why one failed."""
    try:
        session = PlainSession(model, threads, path.parent)
        runs = [session.run(feed) for feed in feeds]
    except SessionError as error:
        return str(error)
    return {name: [outputs[name] for outputs in runs] for name in session.outputs}


def _difference(computed: Sequence[Array], expected: Sequence[Array]) -> float:
    """Relative, over all runs; infinite where shapes differ or the expected values are not finite."""
    if [array.shape for array in computed] != [array.shape for array in expected]:
        return float("inf")
    if not all(np.isfinite(array).all() for array in expected if array.dtype.kind == "f"):
        return float("inf")
    return difference(*(np.concatenate([array.reshape(-1) for array in arrays]) for arrays in (computed, expected)))


def _rounded(model: ir.Model) -> ir.Model:
    """The graph with its weights rounded to float16, stored as float32; weights beyond float16's range stay."""
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
