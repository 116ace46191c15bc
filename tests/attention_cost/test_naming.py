"""Names that can be read back."""

import string
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from attn_export.exporter.artifacts import OnnxFile
from attn_export.exporter.graph.read import named, read
from attn_export.exporter.latency.attention_cost.naming import Names
from tests.attention_cost.conftest import kernels_of
from tests.engine.graphs import gated

Network = Callable[..., OnnxFile]
AROUND = st.text(string.ascii_letters + string.digits + "_/.: ", max_size=12)


def test_nodes_and_tensors_are_found_again(tmp_path):
    model = named(read(gated(tmp_path / "gated.onnx")))
    names = Names(model)
    for node in model.graph:
        assert names.node(node.name) is node
        for value in node.outputs:
            assert names.tensor(value.name) is value
            assert names.node(value.name) is node


def test_inputs_outputs_and_weights_keep_their_names(tmp_path: Path) -> None:
    before = read(gated(tmp_path / "gated.onnx"))
    after = read(tmp_path / "gated.onnx")
    names = Names(after)
    assert [v.name for v in after.graph.inputs] == [v.name for v in before.graph.inputs]
    assert [v.name for v in after.graph.outputs] == [v.name for v in before.graph.outputs]
    assert list(after.graph.initializers) == list(before.graph.initializers)
    assert names.tensor("x") is after.graph.inputs[0]
    assert names.tensor("y") is after.graph.outputs[0]


@given(before=AROUND, behind=AROUND, index=st.integers(0, 7))
def test_whatever_is_put_around_a_name_it_tells_where_it_comes_from(
    before: str, behind: str, index: int, tmp_path_factory
) -> None:
    model = named(read(gated(tmp_path_factory.mktemp("named") / "gated.onnx")))
    names = Names(model)
    node = list(model.graph)[index]
    assert names.node(f"{before}{node.name}{behind}") is node
    for value in node.outputs:
        assert names.tensor(f"{before}{value.name}{behind}") is value or value.is_graph_output()


def test_other_names_tell_nothing(tmp_path: Path) -> None:
    names = Names(named(read(gated(tmp_path / "gated.onnx"))))
    for name in ("", "reorder_token_3", "ReorderOutput", "Node3", "w", "attn", "_inlfunc_HardSwish_HS_X"):
        assert names.node(name) is None
        assert names.tensor(name) is None


def test_onnx_runtime_makes_the_same_kernels_whatever_the_names(network: Network, tmp_path: Path) -> None:
    """The names of the file, and others: both are profiled, and the kernels are the same."""
    from attn_export.exporter.latency.attention_cost.profile import profile
    from tests.attention_cost.conftest import ONE_THREAD, images_of

    file = network("cbam_resnet8", "onnxruntime")
    own = profile(named(read(file.path)), file.path, file.signature, ONE_THREAD, images_of(file), 1, tmp_path)
    renamed = kernels_of(file, tmp_path)
    assert [kernel.op_type for kernel in renamed] == [kernel.op_type for kernel in own]
