"""One toy network, every runtime, one oracle; and whatever a runtime takes or changes it gives back."""

import gc
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from attn_export.exporter.artifacts import Axis, Input, LoadedModel, OnnxFile, Precision, Signature
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.runtimes import DEFAULT_RUNTIMES, RUNS_ENGINES, RUNTIMES, check_names, runtime_of_file
from attn_export.exporter.runtimes.base import Runtime, Settings
from tests.cleanup.spellings import parsed

CHEAP = ["eager", "onnxruntime"]
HAS_COMPILER = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
COMPILE = pytest.param(
    "compile",
    marks=[pytest.mark.skipif(not HAS_COMPILER, reason="torch.compile needs a C++ compiler"), pytest.mark.full],
)


@pytest.fixture(autouse=True)
def as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads_as_before: int, loaded: Callable[[str], LoadedModel]
) -> Iterator[None]:
    """No test leaves torch or the shared network in another state, or compiled code outside its own folder."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    yield
    assert torch.get_num_threads() == threads_as_before
    assert not any(module.training for module in loaded("toy").module.modules())


@pytest.fixture
def toy(
    loaded: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile]
) -> Callable[[str, Settings], Runtime]:
    """``toy(name, settings)`` is a runtime that is not open yet, for batches of 2."""
    return lambda name, settings: RUNTIMES[name](loaded("toy"), artifact("toy"), settings)


def images(*shape: int) -> dict[str, Array]:
    return {"input": np.random.default_rng(7).standard_normal(shape or (2, 3, 16, 16), dtype=np.float32)}


def oracle(model: LoadedModel, arrays: Arrays) -> Array:
    weights = {name: tensor.double() for name, tensor in model.module.state_dict().items()}
    with torch.no_grad():
        exact = torch.func.functional_call(model.module, weights, (torch.from_numpy(arrays["input"]).double(),))
    return np.asarray(exact)


@pytest.mark.parametrize("name", [*CHEAP, COMPILE])
def test_every_runtime_computes_what_the_network_computes(
    name: str,
    toy: Callable[[str, Settings], Runtime],
    loaded: Callable[[str], LoadedModel],
    one_thread: Settings,
) -> None:
    with toy(name, one_thread) as runtime:
        outputs = runtime.run(images())
        assert runtime.name == name
        assert runtime.device == "cpu"
        assert runtime.precision == "float32"
        assert runtime.open_seconds > 0
    assert list(outputs) == ["output"]
    assert outputs["output"].dtype == np.float32
    exact = oracle(loaded("toy"), images())
    assert np.linalg.norm(outputs["output"] - exact) < 1e-5 * np.linalg.norm(exact)


@pytest.mark.parametrize("name", CHEAP)
def test_results_outlive_the_runtime_and_the_next_inference(
    name: str, toy: Callable[[str, Settings], Runtime], one_thread: Settings
) -> None:
    with toy(name, one_thread) as runtime:
        first = runtime.run(images())["output"]
        before = first.copy()
        runtime.run({"input": -images()["input"]})
    del runtime
    gc.collect()
    assert np.array_equal(first, before)


@pytest.mark.parametrize("name", CHEAP)
def test_the_input_is_not_changed(name: str, toy: Callable[[str, Settings], Runtime], one_thread: Settings) -> None:
    arrays = images()
    with toy(name, one_thread) as runtime:
        runtime.run(arrays)
    assert np.array_equal(arrays["input"], images()["input"])


@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_an_open_batch_takes_every_size(
    name: str, batch: int, toy: Callable[[str, Settings], Runtime], one_thread: Settings
) -> None:
    with toy(name, one_thread) as runtime:
        assert runtime.run(images(batch, 3, 16, 16))["output"].shape == (batch, 5)


WRONG_INPUTS: dict[str, tuple[dict[str, Array], str]] = {
    "no input": ({}, "takes the input 'input', got none"),
    "another name": ({"x": images()["input"]}, "takes the input 'input', got x"),
    "one too many": ({**images(), "mask": np.zeros(1)}, "takes the input 'input', got input, mask"),
    "double": ({"input": np.zeros((2, 3, 16, 16))}, "input is float64; expected is float32"),
    "bytes": ({"input": np.zeros((2, 3, 16, 16), np.uint8)}, "input is uint8; expected is float32"),
    "channels": (images(2, 4, 16, 16), r"input has shape \(2, 4, 16, 16\); expected is \(batch, 3, 16, 16\)"),
    "height": (images(2, 3, 17, 16), r"input has shape \(2, 3, 17, 16\); expected is \(batch, 3, 16, 16\)"),
    "no batch": (images(3, 16, 16), r"input has shape \(3, 16, 16\); expected is \(batch, 3, 16, 16\)"),
    "empty batch": (images(0, 3, 16, 16), r"input has shape \(0, 3, 16, 16\); expected is \(batch, 3, 16, 16\)"),
}


@pytest.mark.parametrize("wrong", WRONG_INPUTS)
@pytest.mark.parametrize("name", CHEAP)
def test_an_input_that_does_not_fit_is_refused_in_the_same_words_everywhere(
    name: str, wrong: str, toy: Callable[[str, Settings], Runtime], one_thread: Settings
) -> None:
    arrays, complaint = WRONG_INPUTS[wrong]
    with toy(name, one_thread) as runtime, pytest.raises(UsageError, match=complaint):
        runtime.run(arrays)


@pytest.mark.parametrize("name", CHEAP)
def test_torchs_threads_and_the_modules_modes_are_set_back(
    name: str, fresh: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile], threads_as_before: int
) -> None:
    model = fresh("toy")
    model.module.train()
    settings = Settings(threads=threads_as_before + 1)
    with RUNTIMES[name](model, artifact("toy"), settings):
        if name != "onnxruntime":
            assert torch.get_num_threads() == threads_as_before + 1
            assert not model.module.training
    assert torch.get_num_threads() == threads_as_before
    assert all(module.training for module in model.module.modules())


def test_runtimes_that_are_open_together_set_back_what_the_first_found(
    toy: Callable[[str, Settings], Runtime], threads_as_before: int
) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(toy("eager", Settings(threads=threads_as_before + 1)))
    assert torch.get_num_threads() == threads_as_before


@pytest.mark.parametrize("name", CHEAP)
def test_closing_twice_is_closing_once(
    name: str, toy: Callable[[str, Settings], Runtime], one_thread: Settings
) -> None:
    runtime = toy(name, one_thread).open()
    runtime.close()
    runtime.close()


@pytest.mark.parametrize("name", CHEAP)
def test_closing_what_was_never_open_does_nothing(
    name: str, toy: Callable[[str, Settings], Runtime], one_thread: Settings
) -> None:
    toy(name, one_thread).close()


@pytest.mark.parametrize("name", CHEAP)
def test_a_closed_runtime_can_be_opened_again(
    name: str, toy: Callable[[str, Settings], Runtime], one_thread: Settings
) -> None:
    runtime = toy(name, one_thread)
    first, second = (runtime.open().run(images()) for _ in range(2))
    runtime.close()
    assert np.array_equal(first["output"], second["output"])


def test_an_error_inside_closes_the_runtime(toy: Callable[[str, Settings], Runtime], threads_as_before: int) -> None:
    with pytest.raises(KeyboardInterrupt), toy("eager", Settings(threads=threads_as_before + 1)):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == threads_as_before


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown runtime 'tflite'") as caught:
        check_names(["eager", "tflite"])
    assert caught.value.hint == f"Known are {', '.join((*RUNTIMES, *RUNS_ENGINES))}."


def test_names_are_asked_once_and_keep_their_order() -> None:
    assert check_names(["onnxruntime", "eager", "onnxruntime"]) == ("onnxruntime", "eager")
    assert check_names([]) == ()
    assert check_names(DEFAULT_RUNTIMES) == DEFAULT_RUNTIMES


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "no protobuf": lambda content: b"PK\x03\x04" + content[4:],
    "cut": lambda content: content[: len(content) // 2],
    "unknown operator": lambda content: content.replace(b"Sigmoid", b"Sigmold"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_unavailable_and_says_so(
    damage: str, artifact: Callable[[str], OnnxFile], loaded: Callable[[str], LoadedModel], tmp_path: Path
) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(DAMAGE[damage](artifact("toy").path.read_bytes()))
    runtime = RUNTIMES["onnxruntime"](loaded("toy"), replace(artifact("toy"), path=path), Settings(threads=1))
    with pytest.raises(RuntimeUnavailableError, match="onnxruntime can't run this artifact: ") as caught:
        runtime.open()
    assert "\n" not in caught.value.message
    assert "--debug" in caught.value.hint
    runtime.close()


def test_a_missing_file_is_unavailable(
    artifact: Callable[[str], OnnxFile], loaded: Callable[[str], LoadedModel], tmp_path: Path
) -> None:
    missing = replace(artifact("toy"), path=tmp_path / "gone.onnx")
    with pytest.raises(RuntimeUnavailableError, match=r"gone\.onnx"):
        RUNTIMES["onnxruntime"](loaded("toy"), missing, Settings(threads=1)).open()


def test_a_file_of_another_network_is_unavailable(
    artifact: Callable[[str], OnnxFile], loaded: Callable[[str], LoadedModel]
) -> None:
    other = replace(artifact("toy"), path=artifact("cbam_resnet8").path)
    with pytest.raises(RuntimeUnavailableError, match="can't run this artifact"):
        RUNTIMES["onnxruntime"](loaded("toy"), other, Settings(threads=1)).open()


@pytest.mark.parametrize("name", [*CHEAP, "compile"])
def test_provenance_names_library_version_and_what_runs(
    name: str, toy: Callable[[str, Settings], Runtime], one_thread: Settings
) -> None:
    expected = {
        "eager": f"torch {torch.__version__}",
        "compile": f"torch {torch.__version__}, inductor",
        "onnxruntime": f"onnxruntime {onnxruntime.__version__}, CPUExecutionProvider",
    }
    assert toy(name, one_thread).provenance == expected[name]


def test_a_float16_file_that_crashes_an_optimization_is_run_without_it(tmp_path: Path, one_thread: Settings) -> None:
    """A Transpose that moves an axis of one, before a MatMul: https://github.com/microsoft/onnxruntime/issues/28392"""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float16[1, N, 8] x) => (float16[N, 1, 4] y) {
        t = Transpose<perm = [1, 0, 2]>(x)  y = MatMul(t, k) }"""
    onnx.save(parsed(text, k=np.ones((8, 4), np.float16)), tmp_path / "a.onnx")
    signature = Signature((Input("x", (1, 3, 8), "float16", (Axis("axis_1", 1),)),), ("y",))
    file = OnnxFile(tmp_path / "a.onnx", signature, "", 17, 2, (), precision=Precision.FP16)
    with runtime_of_file(file, one_thread) as runtime:
        assert runtime.provenance.endswith("without NchwcTransformer")
        assert runtime.run({"x": np.ones((1, 3, 8), np.float16)})["y"].tolist() == [[[8.0] * 4]] * 3
    assert runtime_of_file(replace(file, precision=Precision.FP32), one_thread).provenance.endswith("Provider")


class Broken(Runtime):
    """Fails where it is told to."""

    name = "broken"
    provenance = "none"

    def __init__(self, where: str, error: BaseException) -> None:
        axes = (Axis("batch", 0), Axis("height", 2, minimum=8))
        super().__init__(Signature((Input("input", (2, 3, 16, 16), axes=axes),), ("output",)), Settings(threads=1))
        self.where, self.error, self.closed = where, error, 0

    def _fail(self, here: str) -> None:
        if here == self.where:
            raise self.error

    def _open(self) -> None:
        self._fail("open")

    def _close(self) -> None:
        self.closed += 1

    def upload(self, arrays: Arrays) -> Mapping[str, Any]:
        self._fail("upload")
        return arrays

    def infer(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        self._fail("infer")
        return inputs

    def synchronize(self) -> None:
        self._fail("synchronize")

    def download(self, outputs: Mapping[str, Any]) -> dict[str, Array]:
        self._fail("download")
        return dict(outputs)


@pytest.mark.parametrize("where", ["open", "upload", "infer", "synchronize", "download"])
def test_whatever_fails_late_fails_while_opening(where: str) -> None:
    runtime = Broken(where, ValueError("first line\nsecond line"))
    with pytest.raises(RuntimeUnavailableError) as caught:
        runtime.open()
    assert caught.value.message == "broken can't run this artifact: first line"
    assert caught.value.__cause__ is runtime.error


@pytest.mark.parametrize("where", ["upload", "infer", "synchronize", "download"])
@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()], ids=repr)
def test_what_was_loaded_is_given_back_when_the_first_sample_fails(where: str, error: BaseException) -> None:
    runtime = Broken(where, error)
    with pytest.raises((RuntimeUnavailableError, KeyboardInterrupt)):
        runtime.open()
    assert runtime.closed == 1
    runtime.close()
    assert runtime.closed == 1


@pytest.mark.parametrize("where", ["open", "infer"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_is_not_the_runtimes_fault_stays_what_it_is(where: str, error: type[BaseException]) -> None:
    with pytest.raises(error):
        Broken(where, error()).open()


def test_a_library_that_is_not_installed_is_named() -> None:
    missing = ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
    with pytest.raises(
        RuntimeUnavailableError, match="broken is not installed: module onnxruntime is missing"
    ) as caught:
        Broken("open", missing).open()
    assert "pip install onnxruntime" in caught.value.hint


def test_an_error_without_words_is_reported_by_its_name() -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"can't run this artifact: ValueError$"):
        Broken("infer", ValueError()).open()


@pytest.mark.parametrize(("height", "fits"), [(8, True), (7, False), (40, True)])
def test_an_open_axis_takes_its_smallest_size_and_no_less(height: int, fits: bool) -> None:
    runtime = Broken("nowhere", ValueError()).open()
    if fits:
        runtime.run(images(1, 3, height, 16))
    else:
        with pytest.raises(UsageError, match=r"expected is \(batch, 3, height, 16\)"):
            runtime.run(images(1, 3, height, 16))
