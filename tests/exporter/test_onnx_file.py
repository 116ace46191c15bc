"""What is written is what onnx-ir would write, and what is added later leaves every written byte alone."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from attn_export.exporter.artifacts import Graph, LoadedModel, OnnxFile
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.errors import CleanupError, OutputError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.gates import gates_of
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.system.files import sha256_of

FULL_DISK = Path("/dev/full")
needs_full_disk = pytest.mark.skipif(not FULL_DISK.exists(), reason="this system has no /dev/full")


@pytest.fixture
def graph(captured: Callable[[str], Graph]) -> Graph:
    return clean_graph(captured("toy"))[0]


@pytest.fixture
def images() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal((2, 3, 16, 16), dtype=np.float32)


def session_of(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def loaded_from(path: Path) -> bytes:
    """All that a file says, in its order, without the value_info of initializers: it repeats their shape and dtype."""
    model = onnx.load(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [info for info in model.graph.value_info if info.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    return bytes(model.SerializeToString(deterministic=True))


@pytest.mark.parametrize("name", ["toy", "se_resnet8", "cbam_resnet8", "resnet8"])
def test_streaming_writes_what_onnx_ir_writes(captured: Callable[[str], Graph], tmp_path: Path, name: str) -> None:
    graph = clean_graph(captured(name))[0]
    onnx_file.write(graph, tmp_path / "streamed.onnx")
    ir.save(graph.model, tmp_path / "saved.onnx")
    assert loaded_from(tmp_path / "streamed.onnx") == loaded_from(tmp_path / "saved.onnx")


def test_tensors_of_every_kind_are_streamed_as_onnx_ir_writes_them(graph: Graph, tmp_path: Path) -> None:
    """Lengths around the places where a varint needs another byte, dtypes whose elements are packed, an empty one."""
    for count in (0, 1, 25, 26, 127, 128, 4090, 4096, 16384):
        for dtype in (np.float32, np.int64, np.bool_, np.float16):
            tensor = ir.tensor(np.ones(count, dtype), name=f"t_{count}_{np.dtype(dtype).name}")
            graph.model.graph.register_initializer(ir.Value(name=tensor.name, const_value=tensor))
    tensor = ir.tensor(["a", "bc"], name="words")
    graph.model.graph.register_initializer(ir.Value(name="words", const_value=tensor))
    onnx_file.write(graph, tmp_path / "streamed.onnx")
    ir.save(graph.model, tmp_path / "saved.onnx")
    assert loaded_from(tmp_path / "streamed.onnx") == loaded_from(tmp_path / "saved.onnx")


def test_the_graph_in_memory_is_complete_after_it_was_written(graph: Graph, tmp_path: Path) -> None:
    onnx_file.write(graph, tmp_path / "first.onnx")
    onnx_file.write(graph, tmp_path / "second.onnx")
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()
    assert len(graph.model.graph.initializers) == len(onnx.load(tmp_path / "first.onnx").graph.initializer) > 0


def test_the_file_is_described(graph: Graph, tmp_path: Path) -> None:
    file = onnx_file.write(graph, tmp_path / "a.onnx")
    proto = onnx.load(file.path)
    assert file == OnnxFile(
        path=tmp_path / "a.onnx",
        signature=graph.signature,
        parent_sha256=graph.parent_sha256,
        opset=graph.opset,
        nodes=len(proto.graph.node),
        gates=gates_of(graph.model),
        steps=graph.steps,
        blocks=graph.blocks,
    )
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", graph.opset)]
    assert proto.producer_name == "attn-export"
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


def test_the_checker_and_onnx_runtime_take_the_file(graph: Graph, images: Any, tmp_path: Path) -> None:
    file = onnx_file.write(graph, tmp_path / "a.onnx")
    onnx.checker.check_model(str(file.path), full_check=True)
    (output,) = session_of(file.path).run(None, {"input": images})
    assert output.shape == (2, 5)


@pytest.mark.parametrize(("largest_inside", "outside"), [(0, True), (-1, False)])
def test_weights_leave_the_file_only_when_they_are_too_many(
    graph: Graph, images: Any, tmp_path: Path, largest_inside: int, outside: bool
) -> None:
    """-1 stands for exactly as many as there are."""
    weights = sum(v.const_value.nbytes for v in graph.model.graph.initializers.values() if v.const_value)
    inside = onnx_file.write(graph, tmp_path / "inside.onnx")
    file = onnx_file.write(graph, tmp_path / "a.onnx", largest_inside=weights if largest_inside < 0 else largest_inside)
    assert onnx_file.external_data_of(file.path) == tmp_path / "a.onnx.data"
    assert onnx_file.external_data_of(file.path).exists() is outside
    onnx.checker.check_model(str(file.path), full_check=True)
    (expected,), (output,) = (session_of(f.path).run(None, {"input": images}) for f in (inside, file))
    assert np.array_equal(output, expected)


def test_weights_outside_stand_where_the_file_says(graph: Graph, tmp_path: Path) -> None:
    file = onnx_file.write(graph, tmp_path / "a.onnx", largest_inside=0)
    proto = onnx.load(file.path, load_external_data=False)
    locations = {e.value for t in proto.graph.initializer for e in t.external_data if e.key == "location"}
    assert locations == {"a.onnx.data"}, "a name beside the file, so both can be moved together"


def test_an_invalid_graph_is_refused_by_the_checker(graph: Graph, tmp_path: Path) -> None:
    next(node for node in graph.model.graph if node.op_type == "Relu").op_type = "Rleu"
    with pytest.raises(CleanupError, match=r"not valid ONNX: .*Rleu"):
        onnx_file.write(graph, tmp_path / "a.onnx")


def test_a_graph_whose_types_contradict_is_refused_by_the_checker(graph: Graph, tmp_path: Path) -> None:
    graph.model.graph.outputs[0].type = ir.TensorType(ir.DataType.INT64)
    with pytest.raises(CleanupError, match="not valid ONNX"):
        onnx_file.write(graph, tmp_path / "a.onnx")


@needs_full_disk
def test_a_full_disk_is_an_output_error(graph: Graph) -> None:
    with pytest.raises(OutputError, match="/dev/full can't be written: No space left on device"):
        onnx_file.write(graph, FULL_DISK)


def test_a_disk_that_fills_up_is_an_output_error(
    captured: Callable[[str], Graph], tmp_path: Path, small_files_only: None
) -> None:
    with pytest.raises(OutputError, match=r"a\.onnx can't be written: File too large"):
        onnx_file.write(clean_graph(captured("se_resnet8"))[0], tmp_path / "a.onnx")


def test_a_disk_that_fills_up_with_weights_outside_is_an_output_error(
    captured: Callable[[str], Graph], tmp_path: Path, small_files_only: None
) -> None:
    with pytest.raises(OutputError, match="can't be written"):
        onnx_file.write(clean_graph(captured("se_resnet8"))[0], tmp_path / "a.onnx", largest_inside=0)


def test_a_missing_folder_is_an_output_error(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        onnx_file.write(graph, tmp_path / "missing" / "a.onnx")


PROPERTIES = {"attn_export.source_sha256": "ab12", "attn_export.class_names": '["Käse", "猫"]', "empty": ""}


def test_metadata_is_read_by_onnx_and_onnx_runtime(graph: Graph, images: Any, tmp_path: Path) -> None:
    file = onnx_file.write(graph, tmp_path / "a.onnx")
    (before,) = session_of(file.path).run(None, {"input": images})
    onnx_file.add_metadata(file.path, PROPERTIES)
    session = session_of(file.path)
    expected = {**graph.model.metadata_props, **PROPERTIES}
    assert {p.key: p.value for p in onnx.load(file.path).metadata_props} == expected
    assert session.get_modelmeta().custom_metadata_map == expected
    assert np.array_equal(session.run(None, {"input": images})[0], before)
    onnx.checker.check_model(str(file.path), full_check=True)


def test_metadata_leaves_every_written_byte_alone(graph: Graph, tmp_path: Path) -> None:
    file = onnx_file.write(graph, tmp_path / "a.onnx")
    before = file.path.read_bytes()
    onnx_file.add_metadata(file.path, PROPERTIES)
    after = file.path.read_bytes()
    assert after[: len(before)] == before
    assert len(after) > len(before)


def test_metadata_can_be_added_twice(graph: Graph, tmp_path: Path) -> None:
    file = onnx_file.write(graph, tmp_path / "a.onnx")
    onnx_file.add_metadata(file.path, {"first": "1"})
    onnx_file.add_metadata(file.path, {"second": "2"})
    assert session_of(file.path).get_modelmeta().custom_metadata_map == {
        **graph.model.metadata_props,
        "first": "1",
        "second": "2",
    }


@needs_full_disk
def test_metadata_on_a_full_disk_is_an_output_error() -> None:
    with pytest.raises(OutputError, match="No space left on device"):
        onnx_file.add_metadata(FULL_DISK, PROPERTIES)


@pytest.mark.parametrize("largest_inside", [2**30, 0], ids=["weights inside", "weights outside"])
def test_taps_are_further_outputs_with_the_values_on_the_way(
    loaded: Callable[[str], LoadedModel], graph: Graph, images: Any, tmp_path: Path, largest_inside: int
) -> None:
    import torch

    file = onnx_file.write(graph, tmp_path / "a.onnx", largest_inside=largest_inside)
    (gate,) = file.gates
    before = sha256_of(file.path)
    (plain,) = session_of(file.path).run(None, {"input": images})
    with OnnxRuntime(file.path, file.signature, Settings(threads=1), [gate.tensor]) as runtime:
        results = runtime.run({"input": images})
    output, value = results["output"], results[gate.tensor]
    module: Any = loaded("toy").module
    with torch.no_grad():
        features = module[:3](torch.from_numpy(images))
        expected = module[3].fc[:3](features.mean((2, 3)))
    np.testing.assert_allclose(value.reshape(expected.shape), expected.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(output, plain, rtol=1e-4, atol=1e-5)
    assert sha256_of(file.path) == before, "the file that is judged is not touched"


def test_a_tensor_is_returned_once_and_outputs_stay_what_they_are(graph: Graph, images: Any, tmp_path: Path) -> None:
    file = onnx_file.write(graph, tmp_path / "a.onnx")
    tensor = file.gates[0].tensor
    with OnnxRuntime(file.path, file.signature, Settings(threads=1), [tensor, tensor, "output"]) as runtime:
        assert list(runtime.run({"input": images})) == ["output", tensor]


def test_tensors_can_be_returned_instead_of_the_outputs(graph: Graph, images: Any, tmp_path: Path) -> None:
    file = onnx_file.write(graph, tmp_path / "a.onnx")
    tensor = file.gates[0].tensor
    with OnnxRuntime(file.path, file.signature, Settings(threads=1), [tensor], only_extra=True) as runtime:
        assert list(runtime.run({"input": images})) == [tensor]


@pytest.mark.parametrize("name", ["a.onnx", "b.onnx"])
@pytest.mark.parametrize("location", ["a.onnx.data", "other.bin"])
def test_a_copy_has_small_weights_from_other_files_too(name: str, location: str, tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.arange(3, dtype=np.float32), "w")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [value("x", 1, [1, 3])],
        [value("y", 1, [1, 3])],
        [weight],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location=location, size_threshold=0)
    (tmp_path / "there").mkdir()
    onnx_file.copy(tmp_path / "a.onnx", copied := tmp_path / "there" / name)
    (tmp_path / location).unlink()
    (y,) = session_of(copied).run(None, {"x": np.ones((1, 3), np.float32)})
    assert y.tolist() == [[1.0, 2.0, 3.0]]


def test_writing_the_same_graph_gives_the_same_bytes(captured: Callable[[str], Graph], tmp_path: Path) -> None:
    digests = set()
    for name in ("first.onnx", "second.onnx"):
        onnx_file.write(clean_graph(captured("cbam_resnet8"))[0], tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1
