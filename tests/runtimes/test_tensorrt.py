"""The binding logic of `TensorRT`, end to end on stand-ins (see standin.py), and its checks on real engines.

No GPU is needed, and nothing here says how TensorRT itself behaves on one.
"""

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from attn_export.exporter.artifacts import Axis, Input, Signature
from attn_export.exporter.engine.backend import Backend
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.engine.sidecar import sidecar_path
from attn_export.exporter.errors import (
    RuntimeUnavailableError,
    UnreadableEngineError,
    UntrustedEngineError,
    UsageError,
)
from attn_export.exporter.latency.measure import measure
from attn_export.exporter.records.latency import Schedule
from attn_export.exporter.runtimes import tensorrt as room
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.tensorrt import TensorRT
from attn_export.exporter.system import gpus
from attn_export.exporter.system.gpus import Gpu as Described
from tests.engine.building import build_file
from tests.runtimes.standin import LARGEST_BATCH, SIGNATURE, VERSION, Gpu, StandInTensorRT, network, write_engine

NAMES = ("tensorrt", "tensorrt-rtx")
ONE = Settings(threads=1)
HERE = (Described("Stand-in GPU", "8.6"),)


@pytest.fixture(params=NAMES)
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StandInTensorRT:
    """The stand-in for each TensorRT, and a stand-in GPU to run it on."""
    made = StandInTensorRT(Gpu(), request.param)
    made.name = request.param  # type: ignore[attr-defined]

    def load(name: str) -> Backend:
        assert name == request.param
        return Backend(name, made)

    monkeypatch.setattr(room, "load", load)
    monkeypatch.setattr(gpus, "found", lambda: HERE)
    monkeypatch.setattr(room, "device_memory", lambda _: made.gpu)
    return made


@pytest.fixture
def runtime(trt: Any, tmp_path: Path) -> TensorRT:
    return TensorRT(write_engine(tmp_path / "m.engine", trt.name), SIGNATURE, ONE)


def images(batch: int, seed: int = 7) -> dict[str, np.ndarray[Any, Any]]:
    return {"input": np.random.default_rng(seed).standard_normal((batch, 3, 12, 12), dtype=np.float32)}


def expected(arrays: dict[str, Any], model: onnx.ModelProto | None = None) -> dict[str, np.ndarray[Any, Any]]:
    session = onnxruntime.InferenceSession((model or network()).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, arrays), strict=True))


# Inputs and outputs.


def test_outputs_have_the_signatures_names_shapes_and_values(runtime: TensorRT) -> None:
    with runtime:
        outputs = runtime.run(images(2))
    assert list(outputs) == ["output", "gates"]  # the engine has them the other way round
    for name, array in expected(images(2)).items():
        assert outputs[name].shape == array.shape
        assert outputs[name].dtype == np.float32
        np.testing.assert_allclose(outputs[name], array, rtol=1e-5)


def test_batches_of_every_size_in_any_order(runtime: TensorRT) -> None:
    with runtime:
        for seed, batch in enumerate([3, 1, LARGEST_BATCH, 1, 2, 3, 3]):
            arrays = images(batch, seed)
            np.testing.assert_allclose(runtime.run(arrays)["output"], expected(arrays)["output"], rtol=1e-5)


SUM = """
<ir_version: 8, opset_import: ["" : 17]> g (int64[batch, 5] tokens, bool[batch, 5] mask) => (float[batch, 5] kept)
{ zero = Constant <value_int = 0> () counted = Where(mask, tokens, zero) kept = Cast <to = 1> (counted) }
"""
BATCH = (Axis("batch", 0),)
WORDS = Signature((Input("tokens", (2, 5), "int64", BATCH), Input("mask", (2, 5), "bool", BATCH)), ("kept",))


def words(batch: int) -> dict[str, np.ndarray[Any, Any]]:
    draw = np.random.default_rng(batch)
    return {"tokens": draw.integers(0, 50, (batch, 5)), "mask": draw.random((batch, 5)) < 0.5}


def test_several_inputs_of_other_types_are_bound_by_name(trt: Any, tmp_path: Path) -> None:
    ranges = {"min": (1, 5), "opt": (1, 5), "max": (LARGEST_BATCH, 5)}
    profile = {"mask": ranges, "tokens": ranges}
    path = write_engine(tmp_path / "m.engine", trt.name, onnx.parser.parse_model(SUM), profile=profile)
    with TensorRT(path, WORDS, ONE) as runtime:
        for batch in (2, 3, 1):
            given = words(batch)
            np.testing.assert_array_equal(runtime.run(given)["kept"], given["tokens"] * given["mask"])
        uploaded = runtime.upload(words(3))
        assert runtime.download(runtime.infer(uploaded))["kept"].shape == (3, 5)
        with pytest.raises(UsageError, match="mask has shape"):
            runtime.run({**words(2), "mask": np.zeros((2, 6), bool)})
        with pytest.raises(UsageError, match="takes the inputs 'tokens', 'mask', got tokens"):
            runtime.run({"tokens": words(2)["tokens"]})


def test_an_engine_with_another_type_of_input_is_refused(trt: Any, tmp_path: Path) -> None:
    ranges = {"min": (1, 5), "opt": (1, 5), "max": (LARGEST_BATCH, 5)}
    path = write_engine(
        tmp_path / "m.engine", trt.name, onnx.parser.parse_model(SUM), profile={"mask": ranges, "tokens": ranges}
    )
    floats = Signature((Input("tokens", (2, 5), axes=BATCH), WORDS.inputs[1]), ("kept",))
    with pytest.raises(UnreadableEngineError, match="takes tokens as int64, the network as float32"):
        TensorRT(path, floats, ONE).open()


def test_uploads_may_be_run_in_any_order_and_again(runtime: TensorRT) -> None:
    with runtime:
        uploaded = [(images(batch, batch), runtime.upload(images(batch, batch))) for batch in (1, 4, 2)]
        for index in (0, 0, 1, 2, 1, 0, 2):
            arrays, inputs = uploaded[index]
            result = runtime.download(runtime.infer(inputs))
            np.testing.assert_allclose(result["output"], expected(arrays)["output"], rtol=1e-5)


def test_two_uploads_of_one_shape_are_two_inputs(runtime: TensorRT) -> None:
    with runtime:
        first, second = runtime.upload(images(2, 1)), runtime.upload(images(2, 2))
        got = [runtime.download(runtime.infer(inputs))["output"] for inputs in (first, second, first)]
    np.testing.assert_array_equal(got[0], got[2])
    assert not np.array_equal(got[0], got[1])


def test_results_outlive_the_next_inference_and_the_runtime(runtime: TensorRT) -> None:
    with runtime:
        inputs = runtime.upload(images(2))
        first, again = (runtime.download(runtime.infer(inputs))["output"] for _ in range(2))
        assert not np.shares_memory(first, again)
        before = first.copy()
        runtime.run(images(2, 8))
    gc.collect()
    np.testing.assert_array_equal(first, before)


def test_the_input_is_neither_changed_nor_needed_after_the_upload(runtime: TensorRT) -> None:
    arrays = images(2)
    with runtime:
        inputs = runtime.upload(arrays)
        np.testing.assert_array_equal(arrays["input"], images(2)["input"])
        arrays["input"][:] = 0
        result = runtime.download(runtime.infer(inputs))
    np.testing.assert_allclose(result["output"], expected(images(2))["output"], rtol=1e-5)


def test_infer_returns_at_once_and_synchronize_waits(trt: Any, runtime: TensorRT) -> None:
    with runtime:
        inputs = runtime.upload(images(2))
        runtime.infer(inputs)
        runtime.synchronize()
        waits = trt.gpu.waits
        outputs = runtime.infer(inputs)
        assert trt.gpu.waits == waits
        assert trt.gpu.queue
        runtime.synchronize()
        assert not trt.gpu.queue
        assert np.isfinite(outputs["output"].owner).all()


def test_an_input_that_is_bound_is_not_bound_again(trt: Any, runtime: TensorRT) -> None:
    with runtime:
        inputs = runtime.upload(images(2))
        runtime.infer(inputs)
        trt.calls.clear()
        for _ in range(3):
            runtime.infer(inputs)
        assert trt.calls == ([] if trt.name == "tensorrt" else ["execute_async_v3"] * 3)


def test_outputs_that_the_network_has_not_are_bound_and_not_returned(trt: Any, tmp_path: Path) -> None:
    path = write_engine(tmp_path / "m.engine", trt.name, network(extra="tap"))
    with TensorRT(path, SIGNATURE, ONE) as runtime:
        assert list(runtime.run(images(1))) == ["output", "gates"]


def test_an_engine_with_half_inputs_gets_them_in_half(trt: Any, tmp_path: Path) -> None:
    model = network(TensorProto.FLOAT16)
    path = write_engine(tmp_path / "m.engine", trt.name, model)
    with TensorRT(path, SIGNATURE, ONE) as runtime:
        outputs = runtime.run(images(2))
    half = {"input": images(2)["input"].astype(np.float16)}
    assert outputs["output"].dtype == np.float16
    np.testing.assert_array_equal(outputs["output"], expected(half, model)["output"])


def test_it_can_be_timed_against_another(trt: Any, tmp_path: Path) -> None:
    path = write_engine(tmp_path / "m.engine", trt.name)
    with TensorRT(path, SIGNATURE, ONE) as first, TensorRT(path, SIGNATURE, ONE) as second:
        schedule = Schedule(seconds=0, fewest_rounds=2)
        timings = measure([first, second], images(4), schedule).timings
    assert [(t.runtime, t.device, t.batch) for t in timings] == [(trt.name, "cuda", 4)] * 2


# Shapes outside of the profile.


def test_a_shape_outside_of_the_profile_is_refused_before_tensorrt_sees_it(trt: Any, runtime: TensorRT) -> None:
    with runtime:
        trt.calls.clear()
        with pytest.raises(
            UsageError, match=r"input has shape \(9, 3, 12, 12\); this engine takes \(1, 3, 12, 12\) to "
        ):
            runtime.run(images(LARGEST_BATCH + 1))
        assert trt.calls == []
        runtime.run(images(LARGEST_BATCH))


def test_an_input_that_does_not_fit_the_network_is_refused_as_everywhere(runtime: TensorRT) -> None:
    with runtime, pytest.raises(UsageError, match=r"expected is \(batch, 3, 12, 12\)"):
        runtime.run({"input": np.zeros((1, 3, 13, 12), np.float32)})


def test_the_sample_is_one_that_the_engine_takes(trt: Any, tmp_path: Path) -> None:
    one = [1, 3, 12, 12]
    profile = {"input": {"min": one, "opt": one, "max": one}}
    path = write_engine(tmp_path / "m.engine", trt.name, profile=profile)
    with TensorRT(path, SIGNATURE, ONE) as runtime:  # traced with a batch of two
        runtime.run(images(1))
        with pytest.raises(UsageError, match=r"this engine takes \(1, 3, 12, 12\)$"):
            runtime.run(images(2))


def test_an_engine_for_other_sizes_says_so(trt: Any, tmp_path: Path) -> None:
    path = write_engine(tmp_path / "m.engine", trt.name)
    fixed = Signature((Input("input", (9, 3, 12, 12)),), ("output",))
    with pytest.raises(UsageError, match=r"has shape \(9, 3, 12, 12\); this engine takes"):
        TensorRT(path, fixed, ONE).open()


def test_without_a_record_the_engine_itself_tells_what_it_takes(trt: Any, tmp_path: Path) -> None:
    path = write_engine(tmp_path / "m.engine", trt.name)
    sidecar_path(path).unlink()
    runtime = TensorRT(path, SIGNATURE, ONE, trust=True)
    assert (runtime.name, runtime.precision) == (trt.name, "unknown")
    with runtime:
        np.testing.assert_allclose(runtime.run(images(2))["output"], expected(images(2))["output"], rtol=1e-5)
        with pytest.raises(UsageError, match="this engine takes"):
            runtime.run(images(LARGEST_BATCH + 1))


PROFILES = [
    ({}, "has no shapes for input"),
    ({"input": {}}, "profile"),
    ({"input": {"min": 1, "opt": 1, "max": 1}}, "profile"),
]


@pytest.mark.parametrize(("profile", "words"), PROFILES)
def test_a_record_without_shapes_is_unreadable(trt: Any, tmp_path: Path, profile: dict[str, Any], words: str) -> None:
    path = write_engine(tmp_path / "m.engine", trt.name, profile=profile)
    with pytest.raises(UnreadableEngineError, match=words):
        TensorRT(path, SIGNATURE, ONE).open()


# CUDA graphs, names and provenance.


def test_the_classic_one_is_recorded_once_for_an_input_and_replayed(trt: Any, runtime: TensorRT) -> None:
    with runtime:
        recorded = trt.gpu.recorded
        inputs = runtime.upload(images(2))
        for _ in range(5):
            result = runtime.download(runtime.infer(inputs))
        provenance = runtime.provenance
    np.testing.assert_allclose(result["output"], expected(images(2))["output"], rtol=1e-5)
    if trt.name == "tensorrt":
        assert trt.gpu.recorded == recorded + 1
        assert trt.gpu.replayed >= 5
        assert provenance == f"tensorrt {VERSION}, Stand-in GPU, CUDA graph"
    else:
        assert trt.gpu.recorded == 0
        assert provenance == f"tensorrt-rtx {VERSION}, Stand-in GPU, eager kernel specialization, CUDA graphs"


def test_what_cannot_be_recorded_runs_without_and_says_so(trt: Any, runtime: TensorRT) -> None:
    trt.gpu.can_record = False
    with runtime:
        outputs = runtime.run(images(2))
        if trt.name == "tensorrt":
            assert "no CUDA graph (the GPU failed: capture says cudaErrorStream" in runtime.provenance
    np.testing.assert_allclose(outputs["output"], expected(images(2))["output"], rtol=1e-5)


def test_rtx_is_asked_for_eager_kernels_and_whole_graphs(trt: Any, runtime: TensorRT) -> None:
    with runtime:
        config = runtime._engine.config
        if trt.name == "tensorrt":
            assert config is None
        else:
            assert config.cuda_graph_strategy.name == "WHOLE_GRAPH_CAPTURE"
            assert config.dynamic_shapes_kernel_specialization_strategy.name == "EAGER"


def test_names_belong_to_instances(tmp_path: Path) -> None:
    made = [TensorRT(write_engine(tmp_path / name, name), SIGNATURE, ONE) for name in NAMES]
    assert [runtime.name for runtime in made] == list(NAMES)
    assert [runtime.provenance for runtime in made] == [f"{name} {VERSION}" for name in NAMES]
    assert {runtime.device for runtime in made} == {"cuda"}


PRECISIONS = {
    "asked": ({"requested": "fp16", "graph": [], "kernels": ["FLOAT", "FLOAT16"], "mixed": []}, "float16"),
    "not asked": ({"requested": None, "graph": [], "kernels": ["FLOAT16", "FLOAT"], "mixed": []}, "float16"),
    "no kernels": ({"requested": None, "kernels": [], "graph": ["FLOAT"], "mixed": []}, "float32"),
    "nothing": ({"requested": None, "graph": [], "kernels": [], "mixed": []}, "unknown"),
}


@pytest.mark.parametrize("told", PRECISIONS)
def test_the_precision_is_the_records(told: str, tmp_path: Path) -> None:
    record, precision = PRECISIONS[told]
    path = write_engine(tmp_path / "m.engine", "tensorrt", precision=record)
    assert TensorRT(path, SIGNATURE, ONE).precision == precision


# What TensorRT refuses, and what is given back.

REFUSED = {
    "Runtime": "creates no runtime",
    "create_runtime_config": "creates no runtime configuration",
    "settings": "can't specialize kernels eagerly and launch them as one CUDA graph",
    "create_execution_context": "creates no execution context",
    "set_input_shape": r"rejects shape \(2, 3, 12, 12\) of input",
    "get_tensor_shape": r"has no complete shape for gates: \(-1, 4, 1, 1\)",
    "set_tensor_address": "rejects the address of input",
    "execute_async_v3": "can't run the engine",
}


@pytest.mark.parametrize("call", REFUSED)
def test_a_call_that_fails_is_an_error_with_tensorrts_words(call: str, trt: Any, runtime: TensorRT) -> None:
    if trt.name == "tensorrt" and call in ("create_runtime_config", "settings"):
        pytest.skip("TensorRT-RTX only")
    trt.refuse = call
    with pytest.raises(RuntimeUnavailableError, match=f"^{trt.name} {REFUSED[call]}: ") as caught:
        runtime.open()
    said = "it gives no reason" if call == "settings" else f"IStandIn::{call}: Error Code 9"
    assert caught.value.message.endswith(said)
    assert trt.gpu.released[-1] == "stream"
    runtime.close()


@pytest.mark.parametrize("call", ["set_input_shape", "get_tensor_shape", "set_tensor_address", "execute_async_v3"])
def test_a_call_that_fails_later_leaves_a_runtime_that_still_works(call: str, trt: Any, runtime: TensorRT) -> None:
    with runtime:
        trt.refuse = call
        with pytest.raises(RuntimeUnavailableError, match=f"{call}: Error Code 9"):
            runtime.run(images(3))
        trt.refuse = ""
        np.testing.assert_allclose(runtime.run(images(3))["output"], expected(images(3))["output"], rtol=1e-5)


def test_an_engine_that_cannot_be_loaded_is_unreadable(trt: Any, runtime: TensorRT) -> None:
    trt.refuse = "deserialize_cuda_engine"
    with pytest.raises(
        UnreadableEngineError, match=r"can't load .*m\.engine: IStandIn::deserialize_cuda_engine: Error"
    ):
        runtime.open()


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (1, "it was built by another version of TensorRT-RTX"),
        (2 + 4, "it wasn't built for this GPU's architecture; the driver is too old for it"),
        (32, "it is damaged or not an engine"),
    ],
)
@pytest.mark.parametrize("trt", ["tensorrt-rtx"], indirect=True)
def test_rtx_is_asked_first_why_an_engine_is_invalid(trt: Any, runtime: TensorRT, bits: int, words: str) -> None:
    trt.validity = (trt.EngineValidity.INVALID, bits)
    with pytest.raises(UnreadableEngineError) as caught:
        runtime.open()
    assert caught.value.message == f"tensorrt-rtx {VERSION} can't load {runtime.path}: {words}"
    assert "deserialize_cuda_engine" not in trt.calls


@pytest.mark.parametrize("trt", ["tensorrt-rtx"], indirect=True)
@pytest.mark.parametrize("answer", ["INVALID", "SUBOPTIMAL"])
def test_invalid_without_a_diagnosis_means_that_it_could_not_tell(trt: Any, runtime: TensorRT, answer: str) -> None:
    trt.validity = (trt.EngineValidity[answer], 0)
    with runtime:
        runtime.run(images(1))


def test_everything_is_released_in_order_and_once(trt: Any, runtime: TensorRT) -> None:
    runtime.open()
    runtime.close()
    graph = ["graph"] if trt.name == "tensorrt" else []
    assert trt.gpu.released == [*graph, "context", "engine", "runtime", "logger", "stream"]
    runtime.close()
    assert len(trt.gpu.released) == 5 + len(graph)
    assert runtime.provenance.startswith(f"{trt.name} {VERSION}")


def test_what_is_under_way_is_finished_before_it_is_released(trt: Any, runtime: TensorRT) -> None:
    runtime.open()
    outputs = runtime.infer(runtime.upload(images(2)))
    assert trt.gpu.queue
    runtime.close()
    assert not trt.gpu.queue
    assert np.isfinite(outputs["output"].owner).all()


def test_a_closed_runtime_can_be_opened_again(runtime: TensorRT) -> None:
    first, second = (runtime.open().run(images(2)) for _ in range(2))
    runtime.close()
    np.testing.assert_array_equal(first["output"], second["output"])


# Engines of other networks.

OTHERS = {
    "input": (
        Signature((Input("x", (2, 3, 12, 12), axes=(Axis("batch", 0),)),), ("output",)),
        "takes input and returns gates, output;",
    ),
    "output": (
        Signature((Input("input", (2, 3, 12, 12), axes=(Axis("batch", 0),)),), ("logits",)),
        "the network takes input and retu",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_engine_of_another_network_is_refused(other: str, trt: Any, tmp_path: Path) -> None:
    signature, words = OTHERS[other]
    with pytest.raises(UnreadableEngineError, match=words):
        TensorRT(write_engine(tmp_path / "m.engine", trt.name), signature, ONE).open()


@pytest.mark.parametrize(
    ("kind", "words"),
    [(TensorProto.BFLOAT16, "in BF16, which numpy doesn't support"), (TensorProto.INT32, "input as int32")],
)
def test_types_that_cannot_be_given_are_refused(kind: int, words: str, trt: Any, tmp_path: Path) -> None:
    model = network()
    model.graph.input[0].type.tensor_type.elem_type = kind
    with pytest.raises(UnreadableEngineError, match=words):
        TensorRT(write_engine(tmp_path / "m.engine", trt.name, model), SIGNATURE, ONE).open()


# Before TensorRT: real engines of the real TensorRT-RTX.


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    folder = tmp_path_factory.mktemp("engines")
    onnx.save(network(), folder / "m.onnx")
    settings = EngineSettings(gpus=("sm86",), backend="tensorrt-rtx", count_ablated=False)
    return build_file(folder / "m.onnx", folder / "m.engine", settings).path


@pytest.fixture
def engine(built: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    path = tmp_path / "m.engine"
    path.write_bytes(built.read_bytes())
    sidecar_path(path).write_bytes(sidecar_path(built).read_bytes())
    return path


def changed(**changes: Any) -> Callable[[Path], None]:
    def change(engine: Path) -> None:
        record = json.loads(sidecar_path(engine).read_text())
        sidecar_path(engine).write_text(json.dumps({**record, **changes}))

    return change


def flip(engine: Path) -> None:
    content = bytearray(engine.read_bytes())
    content[len(content) // 2] ^= 1
    engine.write_bytes(content)


def version(of: str) -> Callable[[Path], None]:
    return changed(backend={"name": "tensorrt-rtx", "version": of})


WRONG: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "missing": (lambda e: e.unlink(), UnreadableEngineError, "No such file"),
    "empty": (lambda e: e.write_bytes(b""), UnreadableEngineError, "is empty"),
    "truncated": (lambda e: e.write_bytes(e.read_bytes()[:-100]), UnreadableEngineError, "is truncated"),
    "changed byte": (flip, UntrustedEngineError, "was changed after its build"),
    "no record": (lambda e: sidecar_path(e).unlink(), UntrustedEngineError, "no record of its origin"),
    "garbage record": (
        lambda e: sidecar_path(e).write_bytes(b"\xff{"),
        UnreadableEngineError,
        "is not the record of an engine",
    ),
    "list as record": (
        lambda e: sidecar_path(e).write_text("[]"),
        UnreadableEngineError,
        "is not the record of an engine",
    ),
    "newer record": (changed(schema_version=99), UnreadableEngineError, "has schema version 99"),
    "other version": (version("1.0.0.1"), UnreadableEngineError, "was built by tensorrt-rtx 1.0.0.1, but "),
    "other platform": (changed(platform="linux-vax"), UnreadableEngineError, "was built for linux-vax"),
    "unknown backend": (
        changed(backend={"name": "trt-lite", "version": "1"}),
        UnreadableEngineError,
        "was built by trt-lite",
    ),
    "no backend": (changed(backend={}), UnreadableEngineError, "is not the record of an engine"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_the_file_is_reported_before_anything_else(wrong: str, engine: Path) -> None:
    damage, error, words = WRONG[wrong]
    damage(engine)
    with pytest.raises(error, match=words) as caught:
        TensorRT(engine, SIGNATURE, ONE).open()
    assert caught.value.exit_code == 3  # type: ignore[attr-defined]


@pytest.mark.skipif(bool(gpus.found()), reason="there is a GPU here")
def test_a_good_engine_is_not_run_without_a_gpu(engine: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"m\.engine was not run: no GPU") as caught:
        TensorRT(engine, SIGNATURE, ONE).open()
    assert caught.value.exit_code == 5


@pytest.mark.skipif(bool(gpus.found()), reason="there is a GPU here")
@pytest.mark.parametrize("wrong", ["changed byte", "no record"])
def test_trust_gets_as_far_as_a_good_engine(wrong: str, engine: Path) -> None:
    WRONG[wrong][0](engine)
    runtime = TensorRT(engine, SIGNATURE, ONE, trust=True)
    assert runtime.name == "tensorrt-rtx"
    with pytest.raises(RuntimeUnavailableError, match="was not run: no GPU"):
        runtime.open()


@pytest.mark.skipif(bool(gpus.found()), reason="there is a GPU here")
def test_the_real_one_gives_no_engine_without_a_driver_and_that_is_an_error(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a GPU made up: the real validity answer can't tell, and the real deserialization gives None."""
    monkeypatch.setattr(gpus, "found", lambda: HERE)
    monkeypatch.setattr(room, "device_memory", lambda _: Gpu())
    with pytest.raises(UnreadableEngineError, match=r"tensorrt-rtx [\d.]+ can't load .*m\.engine: ."):
        TensorRT(engine, SIGNATURE, ONE).open()


def test_the_real_one_calls_garbage_damaged(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "found", lambda: HERE)
    monkeypatch.setattr(room, "device_memory", lambda _: Gpu())
    engine.write_bytes(b"garbage " * engine.stat().st_size)
    with pytest.raises(UnreadableEngineError, match=r"can't load .*: it is damaged or not an engine"):
        TensorRT(engine, SIGNATURE, ONE, trust=True).open()


def test_an_engine_for_another_gpu_is_refused(trt: Any, tmp_path: Path) -> None:
    path = write_engine(tmp_path / "m.engine", trt.name, gpus=["sm89"])
    with pytest.raises(UnreadableEngineError, match="was built for sm89, but this machine's Stand-in GPU is sm86"):
        TensorRT(path, SIGNATURE, ONE).open()
    assert not trt.calls
