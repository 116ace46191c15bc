"""Whether a converted file computes what its float32 source computes, for files without a checkpoint.

Both run on the same inputs. The baseline error is the change of the source's outputs when its inputs and weights are
rounded to the other type. It lacks the rounding of intermediate results. So does a float16 file in ONNX Runtime on a
CPU, which drops the conversions between operators: good files have an error ratio of one. bfloat16 files run in onnx's
reference evaluator, which rounds every result.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import ParsedFile, Precision
from attn_export.exporter.errors import DisagreementError, InputError
from attn_export.exporter.graph.session import PlainSession, SessionError
from attn_export.exporter.precision.rounding import HALF_TYPES, HalfType
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.policies import CONVERTED, CONVERTED_TO_BFLOAT16, Policy
from attn_export.exporter.records.verdict import Comparison, Verdict, number
from attn_export.exporter.runtimes.evaluator import Evaluator, evaluated
from attn_export.exporter.validation.metrics import difference
from attn_export.exporter.validation.verdict import compare

ALL = "all"  # kinds of input together
HINT = "No file was written. Please report it with the file: the conversion or the runtime is wrong."

Outputs = dict[str, list[Array]]  # by name, one array per run


def compare_with_parent(
    parent: ParsedFile, child: ParsedFile, precision: Precision, feeds: Sequence[Mapping[str, Array]], threads: int
) -> Verdict:
    """Run both, which have the same inputs and outputs, on the same feeds; the verdict agrees.

    Raises:
        InputError: the parent doesn't run, or its baseline error is too large to prove anything.
        DisagreementError: the child computes something else, or doesn't run.
    """
    exact = _outputs(parent.model, parent.path, feeds, threads)
    if isinstance(exact, str):
        raise InputError(f"ONNX Runtime can't run {parent.path}: {exact}", hint="Nothing can be compared then.")
    kind, in_evaluator = HALF_TYPES[precision], precision is Precision.BF16
    policy = CONVERTED_TO_BFLOAT16 if in_evaluator else CONVERTED
    rounded = [_rounded_feed(feed, kind) for feed in feeds]
    coarse = _outputs(_rounded(parent.copy(), kind), parent.path, rounded, threads)
    if in_evaluator:
        computed: Outputs | str = evaluated(child.path, list(exact), feeds)
    else:
        computed = _outputs(child.model, child.path, feeds, threads)
    if isinstance(computed, str):
        message = f"the {kind} file of {parent.path} doesn't run: {computed}"
        raise DisagreementError(message, hint=HINT)
    verdict = policy.verdict(
        Evaluator.name if in_evaluator else "onnxruntime",
        [_compared(name, computed, exact, coarse, parent.path, policy) for name in exact],
        (tuple(array.shape for array in feed.values()) for feed in feeds),
        images=len(feeds),
        gates_missed="only outputs of a converted file are compared",
    )
    if not verdict.agrees:
        raise _disagreement(parent.path, verdict.worst, kind)
    return verdict


def _compared(
    name: str, computed: Outputs, exact: Outputs, coarse: Outputs | str, parent: Path, policy: Policy
) -> Comparison:
    baseline = float("inf") if isinstance(coarse, str) else _difference(coarse[name], exact[name])
    if not baseline <= policy.largest_baseline:
        raise InputError(
            f"rounding the weights of {parent} changes {name} by {baseline:.1e}: with such a baseline "
            "error nothing can be proven",
            hint="Export the checkpoint in this precision instead: there the network itself is the reference.",
        )
    if name not in computed:
        return policy.misshapen(name)
    return compare(name, "output", {ALL: _difference(computed[name], exact[name])}, {ALL: baseline}, policy)


def _disagreement(parent: Path, worst: Comparison, kind: HalfType) -> DisagreementError:
    ratio = "" if worst.ratio is None else f", error ratio {worst.ratio:.0f}"
    return DisagreementError(
        f"the {kind} file doesn't compute what {parent} computes: the error of {worst.tensor} is "
        f"{number(worst.error)}, rounding the weights changes it by {number(worst.baseline)}{ratio} "
        f"(max {worst.limit:.0f})",
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


def _rounded(model: ir.Model, kind: HalfType) -> ir.Model:
    """The graph with its weights rounded, stored as float32; weights beyond the type's range stay."""
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT:
            continue
        array = tensor.numpy()
        if not kind.overflows(array):
            value.const_value = ir.Tensor(kind.rounded(array).astype(np.float32), name=name)
    return model


def _rounded_feed(feed: Mapping[str, Array], kind: HalfType) -> dict[str, Array]:
    return {
        name: kind.rounded(array).astype(np.float32) if array.dtype == np.float32 else array
        for name, array in feed.items()
    }
