"""The plain twin is the network that one would have exported without attention, and it runs."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from attn_export.exporter.artifacts import OnnxFile
from attn_export.exporter.cleanup.inspect import inspect_file
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.attention.ablation import without_attention
from attn_export.exporter.graph.gates import gates_of
from attn_export.exporter.graph.read import named, read
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from tests.attention_cost.conftest import LEGACY, ONE_THREAD, as_file, images_of, kernels_of, with_batch
from tests.engine.graphs import conv, gate, gate_weights, node, saved, stated, weight

Network = Callable[..., OnnxFile]
WEIGHTS = [weight("w", 8, 8, 3, 3), *gate_weights()]
NETWORKS = [
    *((name, form) for name in ("se_resnet8", "cbam_resnet8") for form in ("any", "tensorrt", "onnxruntime", LEGACY)),
    *(("cbam_resnet8", f"{form}.fp16") for form in ("any", "tensorrt")),
    *(("se_mobilenet_v3_small", form) for form in ("any", "onnxruntime")),
]


def twin_of(file: OnnxFile) -> ir.Model:
    twin = without_attention(named(read(file.path)), file.blocks)
    assert twin is not None
    return twin


@pytest.mark.parametrize(("name", "form"), NETWORKS)
def test_onnx_runtime_makes_of_it_what_it_makes_of_the_plain_network(
    network: Network, tmp_path: Path, name: str, form: str
) -> None:
    """The plain network is another one of the zoo, exported and cleaned by itself."""
    file, plain = network(name, form), network(name.partition("_")[2], form)
    twin = twin_of(file)
    assert gates_of(twin) == ()
    assert Counter(n.op_type for n in twin.graph) == Counter(n.op_type for n in read(plain.path).graph)
    made, expected = kernels_of(file, tmp_path, twin), kernels_of(plain, tmp_path)
    assert Counter(kernel.op_type for kernel in made) == Counter(kernel.op_type for kernel in expected)


@pytest.mark.parametrize("form", ["any", "onnxruntime", "any.fp16"])
@pytest.mark.parametrize("batch", [1, 3])
def test_it_runs_and_returns_what_has_the_same_shape(network: Network, form: str, batch: int) -> None:
    file = with_batch(network("cbam_resnet8", form), batch)
    given = images_of(file)
    with OnnxRuntime(file.path, file.signature, ONE_THREAD) as whole:
        expected = whole.run(given)["logits"]
    with OnnxRuntime(file.path, file.signature, ONE_THREAD, graph=twin_of(file)) as plain:
        made = plain.run(given)["logits"]
    assert made.shape == expected.shape
    assert made.dtype == expected.dtype
    assert not (made == expected).all(), "without its gates it computes something else"


def test_weights_beside_the_file_stay_there(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "outside.onnx"
    onnx_file.save(read(network("se_resnet8").path), path, largest_inside=0)
    before = {entry.name: entry.stat().st_size for entry in tmp_path.iterdir()}
    assert before["outside.onnx.data"] > before["outside.onnx"]
    file = as_file(path)
    with OnnxRuntime(path, file.signature, ONE_THREAD, graph=twin_of(file)) as plain:
        plain.run(images_of(file))
    assert {entry.name: entry.stat().st_size for entry in tmp_path.iterdir()} == before


def test_a_graph_given_in_place_of_the_file_s_is_run(network: Network) -> None:
    """Handed over unchanged it computes the same numbers."""
    file = network("se_resnet8")
    given = images_of(file)
    with OnnxRuntime(file.path, file.signature, ONE_THREAD) as from_file:
        expected = from_file.run(given)["logits"]
    with OnnxRuntime(file.path, file.signature, ONE_THREAD, graph=read(file.path)) as from_graph:
        assert (from_graph.run(given)["logits"] == expected).all()


def test_nodes_that_share_a_name_are_reported_apart_by_what_they_compute(tmp_path: Path) -> None:
    """The nodes of both blocks have the same names, as where nobody gave them any."""
    nodes = [conv("x", "a"), *gate("a", "b", "one"), conv("b", "c", "v"), *gate("c", "d", "two")]
    nodes.append(node("Relu", "d", "y", name="end"))
    for one in nodes[1:7] + nodes[8:14]:
        one.name = one.op_type.lower()
    path = saved(tmp_path / "same.onnx", nodes, [*WEIGHTS, weight("v", 8, 8, 3, 3)])
    blocks = inspect_file(path)
    assert len(blocks) == 2
    twin = without_attention(named(read(path)), blocks)
    assert twin is not None
    assert [n.op_type for n in twin.graph] == ["Conv", "Conv", "Relu"]
    assert [v.name for n in twin.graph for v in n.outputs] == ["a", "c", "y"]


def test_a_weighted_sum_on_the_way_is_not_taken_for_the_map(tmp_path: Path) -> None:
    """A conversion that the inventory doesn't know leads to another product with something from outside."""
    half = onnx.TensorProto.FLOAT16
    nodes = [
        conv("x", "a"),
        node("ReduceMean", "a axes", "p"),
        node("Cast", "p", "p16", to=half),
        node("Cast", "p16", "q", to=onnx.TensorProto.FLOAT),
        node("Mul", "q scale", "s"),
        node("Sigmoid", "s", "g"),
        node("Mul", "g a", "b"),
        node("Relu", "b", "y"),
    ]
    axes = onnx.numpy_helper.from_array(np.array([2, 3]), "axes")
    path = saved(tmp_path / "cast.onnx", nodes, [weight("w", 8, 8, 3, 3), weight("scale", 1, 8, 1, 1), axes])
    (block,) = inspect_file(path)
    without_casts = tuple(name for name in block.nodes if not name.startswith("cast"))
    twin = without_attention(named(read(path)), [type(block)(**{**vars(block), "nodes": without_casts})])
    assert twin is not None
    assert [n.op_type for n in twin.graph] == ["Conv", "Relu"]


def test_what_a_graph_returns_has_no_twin(tmp_path: Path) -> None:
    nodes = [conv("x", "a"), *gate("a", "y", "se")]
    path = saved(tmp_path / "end.onnx", nodes, WEIGHTS, outputs=[stated("y", ("N", 8, None, None))])
    assert without_attention(named(read(path)), inspect_file(path)) is None
