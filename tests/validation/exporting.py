"""What an export does up to the verdict."""

from pathlib import Path

from attn_export.exporter.artifacts import LoadedModel
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.records.policies import FLOAT32
from attn_export.exporter.records.verdict import Verdict
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.validation.validate import validate
from tests.numbers import or_infinite
from tests.shared import capture, compute_reference

ALL_AXES = ("batch", "height", "width")
FAMILIES = ("resnet18", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_small")
# Good float32 artifacts stand below this, the faintest fault far above: there is room on either side of the limit.
LARGEST_GOOD_RATIO = 3.0


def exported(
    model: LoadedModel, folder: Path, *, dynamic: tuple[str, ...] = ("batch",), opset: int = 20, batch: int = 1
) -> Verdict:
    """What an export does up to the verdict."""
    reference = compute_reference(model, batches(opened(model.inputs, dynamic, batch)))
    graph = clean_graph(capture(model, dynamic=dynamic, opset=opset, batch=batch))[0]
    return validate(onnx_file.write(graph, folder / "model.onnx"), reference, Settings(threads=1))


def assert_good(verdict: Verdict, gates: int) -> None:
    assert verdict.agrees
    assert verdict.gates_missed == ""
    assert len([c for c in verdict.comparisons if c.role == "gate"]) == gates
    assert or_infinite(verdict.worst.ratio) < LARGEST_GOOD_RATIO < FLOAT32.limit
