"""The list of what is done to a graph, in order.

Generic steps come from onnx-ir and onnxscript; rules of our own, for what attention leaves behind, stand in a file each
beside this one and take their place in the list.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import onnx_ir as ir
import onnx_ir.passes.common as common
from onnxscript.optimizer import fold_constants_ir
from onnxscript.rewriter import rewrite

from attn_export.exporter.artifacts import Graph, Step
from attn_export.exporter.errors import CleanupError
from attn_export.exporter.quiet import quiet

Apply = Callable[[ir.Model], Any]

# Constants up to this many elements are computed now rather than in every run; larger ones would bloat the file.
FOLDED_ELEMENTS = 8192

PIPELINE: tuple[tuple[str, Apply], ...] = (
    ("inline functions", common.InlinePass()),
    ("fold constants", lambda model: fold_constants_ir(model, output_size_limit=FOLDED_ELEMENTS)),
    # BatchNorm into convolutions, no-op casts and reshapes, clips, optional biases: onnxscript's default rules.
    ("fuse common patterns", rewrite),
    # A fusion can leave constants that only now have constant inputs.
    ("fold again", lambda model: fold_constants_ir(model, output_size_limit=FOLDED_ELEMENTS)),
    ("drop unused nodes", common.RemoveUnusedNodesPass()),
    ("drop identities", common.IdentityEliminationPass()),
    ("lift constants to initializers", common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)),
    ("share equal initializers", common.DeduplicateInitializersPass()),
    ("share equal nodes", common.CommonSubexpressionEliminationPass()),
    ("drop unused operator sets", common.RemoveUnusedOpsetsPass()),
    ("mend outputs", common.OutputFixPass()),
    ("mend names", common.NameFixPass()),
    ("sort", common.TopologicalSortPass()),
)


def clean(graph: Graph) -> Graph:
    """Run every step of `PIPELINE`.

    Args:
        graph: its model is consumed: the result is built from it in place.

    Returns:
        The cleaned graph, its steps recorded with the node count before and after each.

    Raises:
        CleanupError: a step failed; the error names it.
    """
    model, steps = graph.model, []
    for name, apply in PIPELINE:
        before = len(model.graph)
        try:
            with quiet():
                apply(model)
        except Exception as error:
            raise CleanupError(
                f"the cleanup step {name!r} failed: {error}",
                step=name,
                hint="This graph meets a case that the step doesn't handle. Please report it, with the checkpoint's "
                "architecture.",
            ) from error
        steps.append(Step(name, before, len(model.graph)))
    return replace(graph, model=model, steps=(*graph.steps, *steps))
