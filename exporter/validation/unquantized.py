"""The part of a quantized file that nothing quantized precedes: it computes in floats, and is judged as such.

Compared with its own graph alone, a file with one QuantizeLinear would agree with any network.
"""

import onnx_ir as ir

from attn_export.exporter.artifacts import Signature
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.graph.gates import gates_of
from attn_export.exporter.graph.read import parse
from attn_export.exporter.graph.session import PlainSession, SessionError
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.records.artifact import Artifact
from attn_export.exporter.records.policies import POLICIES
from attn_export.exporter.records.verdict import Comparison
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.validation.artifact import BACK, COMPUTES_WHOLE, QUANTIZES
from attn_export.exporter.validation.reference import Reference
from attn_export.exporter.validation.validate import paired
from attn_export.exporter.validation.verdict import compare_arrays

QUANTIZED = (BACK, *QUANTIZES, *COMPUTES_WHOLE)


def compare_unquantized(
    artifact: Artifact, signature: Signature, reference: Reference, settings: Settings
) -> list[Comparison]:
    """Compare the gates and outputs that no quantized value reaches with the network.

    Args:
        artifact: a quantized ONNX file, or an engine with its file beside it.
        signature: of the file.
        reference: of the network.
        settings: of ONNX Runtime.

    Raises:
        RuntimeUnavailableError: ONNX Runtime can't compute them.
    """
    assert artifact.quantized is not None
    graph = parse(artifact.quantized).copy()
    paths = reference.exact[0].gate_paths
    gates, _ = paired(paths, gates_of(graph))
    reached = _reached(graph)
    tensors = [("gate", i, paths[i], gate.tensor) for i, gate in gates.items() if gate.tensor not in reached]
    tensors += [("output", i, name, name) for i, name in enumerate(signature.output_names) if name not in reached]
    if not tensors:
        return []
    values = {value.name: value for node in graph.graph for value in node.outputs}
    wanted = [values[tensor] for *_, tensor in tensors if tensor in values]
    graph.graph.outputs.extend(value for value in wanted if not value.is_graph_output())
    try:
        session = PlainSession(graph, settings.threads, artifact.quantized.parent)
        results = [session.run(_feeds(graph, signature.feeds(batch.arrays))) for batch in reference.batches]
    except SessionError as error:
        raise RuntimeUnavailableError(
            f"ONNX Runtime can't compute the float part of {artifact.path.name}: {error}", runtime="onnxruntime"
        ) from error
    policy, baselines = POLICIES[artifact.precision], reference.baselines[artifact.precision]
    return [
        compare_arrays(
            name,
            role,
            [result[tensor] for result in results],
            [exact.of(role)[i] for exact in reference.exact],
            [baseline.of(role)[i] for baseline in baselines],
            reference.batches,
            policy,
        )
        for role, i, name, tensor in tensors
    ]


def _reached(model: ir.Model) -> set[str | None]:
    """Names of the values that a quantized value reaches."""
    reached: set[ir.Value | None] = set()
    for node in model.graph:
        if node.op_type in QUANTIZED or any(value in reached for value in node.inputs if value is not None):
            reached.update(node.outputs)
    return {value.name for value in reached if value is not None}


def _feeds(model: ir.Model, arrays: Arrays) -> dict[str, Array]:
    """The arrays in the types of the graph's inputs."""
    types = {value.name: value.dtype for value in model.graph.inputs}
    return {name: array.astype(dtype.numpy()) if (dtype := types[name]) else array for name, array in arrays.items()}
