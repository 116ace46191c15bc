"""MACs of graphs next to those of the networks, which are counted without a graph."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from attn_export.exporter.artifacts import OnnxFile
from attn_export.exporter.graph.read import named, read
from attn_export.exporter.latency.attention_cost.macs import macs_of, macs_of_blocks
from attn_export.models.complexity import complexity
from attn_export.models.registry import architecture
from tests.attention_cost.conftest import LEGACY, as_file, with_batch
from tests.engine.graphs import conv, gate, gate_weights, node, saved, stated, weight

Network = Callable[..., OnnxFile]
SHAPE = (2, 8, 8, 8)


def counted(name: str, file: OnnxFile) -> tuple[int, int]:
    """Of the network and of its attention, as `models.complexity` counts them."""
    arch, size = architecture(name), file.signature.inputs[0].shape[1:]
    whole, plain = complexity(arch, size).macs, complexity(arch.plain, size).macs
    return whole, whole - plain


@pytest.mark.parametrize("form", ["any", "tensorrt", "onnxruntime", LEGACY, "any.fp16"])
@pytest.mark.parametrize("name", ["se_resnet8", "se_mobilenet_v3_small"])
def test_se_has_those_of_the_network_less_the_plain_one_s(network: Network, name: str, form: str) -> None:
    file = network(name, form)
    made = macs_of_blocks(file)
    assert made is not None
    assert (made[0], sum(made[1])) == counted(name, file)
    assert all(macs > 0 for macs in made[1])


def test_cbam_has_them_as_it_is_written(network: Network) -> None:
    file = network("cbam_resnet8", LEGACY)
    made = macs_of_blocks(file)
    assert made is not None
    assert (made[0], sum(made[1])) == counted("cbam_resnet8", file)


@pytest.mark.parametrize("form", ["any", "tensorrt"])
def test_cbam_applies_its_second_layer_once_when_it_is_cleaned(network: Network, form: str) -> None:
    """The counts are the graph's own, products that are spelled as sums included."""
    file = network("cbam_resnet8", form)
    made = macs_of_blocks(file)
    assert made is not None
    whole, attention = counted("cbam_resnet8", file)
    saved_macs = sum(c * c // r for c, r in ((b.channels or 0, b.reduction or 1) for b in file.blocks))
    assert (made[0], sum(made[1])) == (whole - saved_macs, attention - saved_macs)


def test_a_gate_that_is_repeated_by_a_convolution_has_its_macs(network: Network) -> None:
    common, shaped = (macs_of_blocks(network("cbam_resnet8", form)) for form in ("any", "onnxruntime"))
    assert common is not None
    assert shaped is not None
    assert sum(shaped[1]) > sum(common[1])
    assert shaped[0] - common[0] == sum(shaped[1]) - sum(common[1])


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_they_are_of_one_image(network: Network, batch: int) -> None:
    file = network("se_resnet8")
    assert macs_of_blocks(with_batch(file, batch)) == macs_of_blocks(file)


def test_a_plain_network_has_all_of_its_own(network: Network) -> None:
    file = network("resnet8")
    assert macs_of_blocks(file) == (complexity(architecture("resnet8"), (3, 16, 16)).macs, ())


def test_each_block_has_its_own(tmp_path: Path) -> None:
    nodes = [
        conv("x", "a"),
        *gate("a", "b", "one"),
        conv("b", "c", "v"),
        *gate("c", "d", "two"),
        node("Relu", "d", "y"),
    ]
    weights = [weight("w", 8, 8, 3, 3), weight("v", 8, 8, 3, 3), *gate_weights()]
    file = as_file(saved(tmp_path / "two.onnx", nodes, weights))
    assert macs_of_blocks(file) == (2 * 8 * 8 * 9 * 64 + 2 * 32, (32, 32))


# Operators.


def total(path: Path, shape: tuple[int, ...] = SHAPE) -> int | None:
    made = macs_of(named(read(path)), {"x": shape})
    return None if made is None else sum(made.values())


def test_groups_strides_and_kernels_count(tmp_path: Path) -> None:
    nodes = [conv("x", "y", "w", group=4, strides=[2, 2])]
    path = saved(tmp_path / "a.onnx", nodes, [weight("w", 16, 2, 3, 3)], outputs=[stated("y", ("N", 16, 4, 4))])
    assert total(path) == 16 * 4 * 4 * 2 * 9


def test_a_transposed_convolution_counts_what_it_reads(tmp_path: Path) -> None:
    nodes = [node("ConvTranspose", "x w", "y", strides=[2, 2])]
    path = saved(tmp_path / "a.onnx", nodes, [weight("w", 8, 4, 2, 2)], outputs=[stated("y", ("N", 4, 16, 16))])
    assert total(path) == 8 * 8 * 8 * 4 * 4


@pytest.mark.parametrize("turned", [0, 1])
def test_a_matrix_product_counts(tmp_path: Path, turned: int) -> None:
    inputs, outputs = [stated("x", (5, 7))], [stated("y", (7 if turned else 5, 3))]
    nodes = [node("Gemm", "x w", "y", transA=turned)]
    path = saved(tmp_path / "a.onnx", nodes, [weight("w", 5 if turned else 7, 3)], inputs, outputs)
    made = macs_of(named(read(path)), {"x": (5, 7)})
    assert made is not None
    assert sum(made.values()) == 5 * 7 * 3 // 5, "for one of five"


def test_a_product_of_maps_counts(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x x", "y")]
    assert total(saved(tmp_path / "a.onnx", nodes)) == 8 * 8 * 8 * 8


def test_what_is_element_wise_does_not_count(tmp_path: Path) -> None:
    nodes = [node("Mul", "x x", "a"), node("ReduceSum", "a axes", "b"), node("Add", "a b", "y")]
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    assert total(saved(tmp_path / "a.onnx", nodes, [axes])) == 0


def test_sizes_that_the_graph_computes_are_reported_when_the_input_is_known(tmp_path: Path) -> None:
    """The number of rows is read off the map, which shape inference alone doesn't see through."""
    nodes = [
        node("Shape", "x", "s"),
        node("Slice", "s zero one", "n"),
        node("Concat", "n rest", "t", axis=0),
        node("Reshape", "x t", "m"),
        node("Gemm", "m w", "y"),
    ]
    integers = [
        onnx.numpy_helper.from_array(np.array([value]), name) for name, value in (("zero", 0), ("one", 1), ("rest", -1))
    ]
    path = saved(tmp_path / "a.onnx", nodes, [weight("w", 512, 3), *integers], outputs=[stated("y", ("N", 3))])
    assert total(path) == 512 * 3


def test_a_shape_that_nothing_tells_is_not_guessed(tmp_path: Path) -> None:
    nodes = [node("Reshape", "x t", "m"), node("MatMul", "m w", "y")]
    inputs = [stated("x"), onnx.helper.make_tensor_value_info("t", onnx.TensorProto.INT64, [2])]
    path = saved(tmp_path / "a.onnx", nodes, [weight("w", 8, 3)], inputs, [stated("y", (None, 3))])
    assert total(path) is None
