"""Runtimes on CUDA, as far as they can be tried without a GPU.

What is real: every refusal, how weights move and come back, torch's TF32 settings, ONNX Runtime's bound memory. Where
something stands in for a GPU, its name says so.
"""

import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from attn_export.exporter.artifacts import DEVICES, LoadedModel, OnnxFile
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError
from attn_export.exporter.latency.measure import measure
from attn_export.exporter.records.arrays import Arrays
from attn_export.exporter.records.environment import Environment
from attn_export.exporter.records.latency import Latency, Run, Schedule, Timing
from attn_export.exporter.records.report import Report
from attn_export.exporter.report.terminal import bench_parts, drawn
from attn_export.exporter.runtimes import RUNTIMES, check_devices, eager, torch_cuda
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.eager import Eager
from attn_export.exporter.runtimes.onnxruntime_cuda import NO_CPU_NODES, OnnxRuntimeCuda, require_provider
from attn_export.exporter.runtimes.torch_cuda import moved, require_cuda
from attn_export.exporter.system.gpus import Gpu
from tests.latency.fakes import IMAGES as TIMED_IMAGES
from tests.latency.fakes import Scripted

ON_CUDA = Settings(threads=1, device="cuda")
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
with_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="this needs a GPU")
without_provider = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA"
)
with_provider = pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="this needs onnxruntime-gpu"
)


def images(*shape: int) -> Arrays:
    return {"input": np.random.default_rng(7).standard_normal(shape or (2, 3, 16, 16), dtype=np.float32)}


def test_the_cpu_is_the_default_and_other_devices_are_refused() -> None:
    assert Settings(threads=1).device == "cpu"
    assert DEVICES == ("cpu", "cuda")
    with pytest.raises(UsageError, match="unknown device 'tpu'") as caught:
        Settings(threads=1, device="tpu")
    assert caught.value.hint == "Known are cpu, cuda."


# Refusals.


@without_cuda
@pytest.mark.parametrize("name", ["eager", "compile"])
def test_torch_without_cuda_is_unavailable_and_says_how_to_get_it(
    name: str, fresh: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile]
) -> None:
    model = fresh("toy")
    before = {key: value.data_ptr() for key, value in model.module.state_dict().items()}
    threads = torch.get_num_threads()
    with pytest.raises(RuntimeUnavailableError, match=f"{name} can't run on cuda: ") as caught:
        RUNTIMES[name](model, artifact("toy"), ON_CUDA).open()
    assert caught.value.exit_code == 5
    assert "--device cpu" in caught.value.hint
    assert {key: value.data_ptr() for key, value in model.module.state_dict().items()} == before
    assert torch.get_num_threads() == threads


@without_cuda
@pytest.mark.skipif(torch.backends.cuda.is_built(), reason="this torch was built with CUDA")
def test_a_torch_that_was_built_without_cuda_is_named() -> None:
    with pytest.raises(RuntimeUnavailableError, match="was built without CUDA") as caught:
        require_cuda("eager")
    assert "pip install --upgrade --force-reinstall torch" in caught.value.hint


NO_DRIVER = (
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver from"
)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError(f"{NO_DRIVER}\nhttp://x"), NO_DRIVER),
        (RuntimeError("No CUDA GPUs are available"), "No CUDA GPUs are available"),
        (None, "torch finds no GPU"),
    ],
)
def test_a_made_up_cuda_build_without_driver_or_gpu_says_what_torch_says(
    error: Exception | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init() -> None:
        if error:
            raise error

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(RuntimeUnavailableError) as caught:
        require_cuda("compile")
    assert caught.value.message == f"compile can't run on cuda: {says}"
    assert "attn-export doctor" in caught.value.hint


@without_provider
@pytest.mark.parametrize(("name", "settings"), [("onnxruntime", ON_CUDA), ("onnxruntime-cuda", Settings(threads=1))])
def test_onnxruntime_without_cuda_is_unavailable_and_says_how_to_get_it(
    name: str, settings: Settings, loaded: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile]
) -> None:
    with pytest.raises(RuntimeUnavailableError, match="was built without CUDAExecutionProvider") as caught:
        RUNTIMES[name](loaded("toy"), artifact("toy"), settings).open()
    assert "pip install onnxruntime-gpu" in caught.value.hint


@without_cuda
@without_provider
@pytest.mark.parametrize("names", [["eager"], ["onnxruntime"], ["compile", "eager"], ["onnxruntime-cuda"]])
def test_missing_devices_are_found_out_before_the_work(names: list[str]) -> None:
    with pytest.raises(RuntimeUnavailableError, match="can't run on cuda"):
        check_devices(names, ON_CUDA)


def test_the_cpu_is_always_there() -> None:
    check_devices(["eager", "compile", "onnxruntime"], Settings(threads=1))


def test_two_names_for_one_runtime_are_refused() -> None:
    with pytest.raises(UsageError, match="are the same on cuda"):
        check_devices(["onnxruntime", "onnxruntime-cuda"], ON_CUDA)


# Weights that move. The meta device stands in for a GPU: it keeps shapes and loses values, so whatever comes back
# was never gone.


def everything(module: nn.Module) -> list[tuple[Any, ...]]:
    """Every tensor with its identity, its memory, its value and its gradient's."""
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return [
        (
            name,
            id(t),
            t.data_ptr(),
            t.requires_grad,
            t.stride(),
            t.detach().clone(),
            t.grad,
            t.grad is not None and t.grad.data_ptr(),
        )
        for name, t in named
    ]


def same(before: list[tuple[Any, ...]], after: list[tuple[Any, ...]]) -> bool:
    return [b[:5] for b in before] == [a[:5] for a in after] and all(
        torch.equal(b[5], a[5]) and b[6] is a[6] and b[7] == a[7] for b, a in zip(before, after, strict=True)
    )


class Tied(nn.Module):
    """One weight under two names, gradients, a buffer that isn't saved, a recurrent layer with its own list."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.ones(4), persistent=False)
        self.norm = nn.BatchNorm1d(4)
        self.register_parameter("absent", None)
        self.first.weight.grad = torch.full((4, 4), 2.0)
        self.second.bias.requires_grad_(False)
        self.recurrent = nn.GRU(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.second(self.first(x)) * self.scale)
        return self.recurrent(y)[0]


def test_weights_come_back_as_the_very_same_tensors() -> None:
    module = Tied().eval()
    before, x = everything(module), torch.randn(3, 4)
    computed = module(x)
    with moved(module, "meta"):
        assert {t.device.type for t in (*module.parameters(), *module.buffers())} == {"meta"}
    assert same(before, everything(module))
    assert torch.equal(module(x), computed)


def test_weights_come_back_where_torch_changes_tensors_in_place() -> None:
    """As it does for a GPU, and not for the meta device; for another type too, which stands in for the GPU here."""
    module = Tied().eval()
    before = everything(module)
    with moved(module, torch.float64):  # type: ignore[arg-type]
        assert {t.dtype for t in module.parameters()} == {torch.float64}
        assert id(module.first.weight) == before[0][1]
        assert module.first.weight is module.second.weight
    assert same(before, everything(module))


def test_moves_of_one_module_within_each_other_come_back_one_by_one() -> None:
    module = Tied().eval()
    before = everything(module)
    with moved(module, "meta"):
        with moved(module, "meta"):
            pass
        assert module.first.weight.device.type == "meta"
    assert same(before, everything(module))


def test_a_move_that_fails_halfway_leaves_nothing_moved() -> None:
    class Refuses(nn.Linear):
        def _apply(self, fn: Any, recurse: bool = True) -> Any:
            raise RuntimeError("out of memory, as made up")

    module = nn.Sequential(nn.Linear(3, 3), Refuses(3, 3))
    before = everything(module)
    with pytest.raises(RuntimeError, match="out of memory"):
        moved(module, "meta").__enter__()
    assert same(before, everything(module))


class FakeGpuEager(Eager):
    """Takes the meta device for a GPU; results are zeros."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.device = "meta"

    def download(self, outputs: Any) -> Any:
        return {name: np.zeros(tensor.shape, np.float32) for name, tensor in outputs.items()}


def test_eager_on_a_stand_in_for_a_gpu_runs_there_and_gives_everything_back(
    fresh: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []
    monkeypatch.setattr(eager, "CUDA", "meta")
    monkeypatch.setattr(eager, "require_cuda", lambda name: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(True))
    model = fresh("toy")
    before, precision = everything(model.module), torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn.allow_tf32
    with FakeGpuEager(model, artifact("toy").signature, Settings(threads=1)) as runtime:
        inputs = runtime.upload(images())
        assert inputs["input"].device.type == "meta"
        assert runtime.infer(inputs)["output"].device.type == "meta"
        assert waited == [True], "when it was opened"
        runtime.synchronize()
        assert len(waited) == 2
        assert not torch.backends.cudnn.allow_tf32
        with pytest.raises(UsageError):
            runtime.run({"x": images()["input"]})
    assert same(before, everything(model.module))
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == (precision, cudnn)


def test_provenance_names_the_made_up_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Made-up 1")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert torch_cuda.device_words("cuda") == ", CUDA 13.0 on Made-up 1, TF32 off, no CUDA graph"
    assert torch_cuda.device_words("cpu") == ""


# TF32. Each in a process of its own: these settings are torch's, for everybody.

SETTINGS = (
    "",
    "b.cuda.matmul.allow_tf32 = True",
    "torch.set_float32_matmul_precision('medium')",
    "b.cudnn.allow_tf32 = False",
    "b.cuda.matmul.fp32_precision = 'tf32'",
    "b.fp32_precision = 'tf32'",
    "b.cudnn.conv.fp32_precision = 'ieee'",
)
ROUND_TRIPS = f"""
import os, sys, torch
from attn_export.exporter.runtimes.torch_cuda import exact_float32
b = torch.backends
def state():
    try:
        older = torch.get_float32_matmul_precision(), b.cuda.matmul.allow_tf32, b.cudnn.allow_tf32
    except RuntimeError:
        older = None
    return older, [k.fp32_precision for k in (b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn, b.mkldnn.matmul)]
def round_trip(setting):
    exec(setting)
    before = state()
    try:
        with exact_float32():
            assert state()[0] == ("highest", False, False), state()
            assert state()[1][:3] == ["ieee"] * 3, state()
            raise KeyError
    except KeyError:
        pass
    assert state() == before, (before, state())
for setting in {SETTINGS!r}:
    child = os.fork()
    if not child:
        round_trip(setting)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"with {{setting!r}}")
"""


def test_tf32_is_off_inside_and_afterwards_what_it_was() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ROUND_TRIPS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# ONNX Runtime: bound memory, for real, on the CPU provider in place of the GPU's.


class FakeGpuOnnxRuntime(OnnxRuntimeCuda):
    """Binds the CPU's memory; for the CPU provider nothing may be forbidden to run on the CPU."""

    device = "cpu"
    provider: ClassVar[tuple[str, dict[str, str]]] = ("CPUExecutionProvider", {})

    def _open(self) -> None:
        self._session = onnxruntime.InferenceSession(str(self.path), self._options(), providers=[self.provider])


@pytest.fixture
def fake(artifact: Callable[[str], OnnxFile]) -> FakeGpuOnnxRuntime:
    return FakeGpuOnnxRuntime(artifact("toy").path, artifact("toy").signature, Settings(threads=1))


def test_bound_memory_gives_what_unbound_memory_gives(
    fake: FakeGpuOnnxRuntime, loaded: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile]
) -> None:
    with RUNTIMES["onnxruntime"](loaded("toy"), artifact("toy"), Settings(threads=1)) as plain, fake as bound:
        for batch in (2, 1, 7, 2):
            x = images(batch, 3, 16, 16)
            assert np.array_equal(bound.run(x)["output"], plain.run(x)["output"])


def test_inputs_are_bound_once_and_stay_on_the_device(fake: FakeGpuOnnxRuntime, monkeypatch) -> None:
    with fake:
        inputs = fake.upload(images())
        assert isinstance(inputs["input"], onnxruntime.OrtValue)
        bound: list[Any] = []
        bind = fake._bind

        def noted(given: Any) -> Any:
            bound.append(given)
            return bind(given)

        monkeypatch.setattr(fake, "_bind", noted)
        for _ in range(3):
            outputs = fake.infer(inputs)
            fake.synchronize()
        assert bound == [inputs]
        assert isinstance(outputs["output"], onnxruntime.OrtValue)
        fake.infer(fake.upload(images()))
        assert len(bound) == 2, "another upload is another binding"
    assert fake._binding is None
    assert fake._session is None


def test_downloaded_results_outlive_the_next_inference_and_the_runtime(fake: FakeGpuOnnxRuntime) -> None:
    with fake:
        inputs = fake.upload(images())
        first = fake.download(fake.infer(inputs))["output"]
        before = first.copy()
        fake.infer(inputs)
        fake.run({"input": -images()["input"]})
    assert np.array_equal(first, before)


def test_onnxruntime_really_refuses_nodes_on_the_cpu_when_told_so(artifact: Callable[[str], OnnxFile]) -> None:
    """The setting that keeps CUDA sessions honest exists and does what it says; a typing error would be ignored."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry(NO_CPU_NODES, "1")
    with pytest.raises(Exception, match="CPU EP"):
        onnxruntime.InferenceSession(str(artifact("toy").path), options, providers=["CPUExecutionProvider"])


class FakeSession:
    """Asked for CUDA, it has only the CPU: what ONNX Runtime does where CUDA's libraries are missing."""

    asked: ClassVar[list[Any]] = []

    def __init__(self, path: str, options: Any, **settings: Any) -> None:
        self.asked.append((options, settings))

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def test_a_made_up_session_that_went_to_the_cpu_is_an_error(
    artifact: Callable[[str], OnnxFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: sys.stdout.write("Failed to load"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)
    monkeypatch.setattr(FakeSession, "asked", [])
    runtime = OnnxRuntimeCuda(artifact("toy").path, artifact("toy").signature, Settings(threads=2))
    with pytest.raises(RuntimeUnavailableError, match="chose CPUExecutionProvider instead of CUDAExecutionProvider"):
        runtime.open()
    ((options, settings),) = FakeSession.asked
    assert options.get_session_config_entry(NO_CPU_NODES) == "1"
    assert options.intra_op_num_threads == 2
    assert settings["enable_fallback"] == 0
    ((provider, asked),) = settings["providers"]
    assert provider == "CUDAExecutionProvider"
    assert asked["use_tf32"] == "0"
    assert asked["cudnn_conv_algo_search"] == "EXHAUSTIVE"


def test_provenance_says_that_nothing_runs_on_the_cpu(artifact: Callable[[str], OnnxFile]) -> None:
    runtime = OnnxRuntimeCuda(artifact("toy").path, artifact("toy").signature, Settings(threads=1))
    assert runtime.device == "cuda"
    assert runtime.provenance == (
        f"onnxruntime {onnxruntime.__version__}, CUDAExecutionProvider (device_id=0, use_tf32=0, "
        "cudnn_conv_algo_search=EXHAUSTIVE), no node on the CPU, no CUDA graph"
    )


# For real, where there is a GPU.


@with_cuda
@pytest.mark.parametrize("name", ["eager", "compile"])
def test_torch_on_a_gpu_computes_what_it_computes_on_the_cpu(
    name: str, fresh: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile]
) -> None:
    model = fresh("toy")
    before = everything(model.module)
    with Eager(model, artifact("toy").signature, Settings(threads=1)) as runtime:
        expected = runtime.run(images())["output"]
    with RUNTIMES[name](model, artifact("toy"), ON_CUDA) as runtime:
        computed = runtime.run(images())["output"]
        assert runtime.device == "cuda"
        assert torch.cuda.get_device_name() in runtime.provenance
    assert np.linalg.norm(computed - expected) < 1e-5 * np.linalg.norm(expected)
    assert same(before, everything(model.module))


@with_provider
@with_cuda
def test_onnxruntime_on_a_gpu_computes_what_it_computes_on_the_cpu(
    loaded: Callable[[str], LoadedModel], artifact: Callable[[str], OnnxFile]
) -> None:
    require_provider()
    with RUNTIMES["onnxruntime"](loaded("toy"), artifact("toy"), Settings(threads=1)) as runtime:
        expected = runtime.run(images())["output"]
    with RUNTIMES["onnxruntime"](loaded("toy"), artifact("toy"), ON_CUDA) as runtime:
        computed = runtime.run(images())["output"]
    assert np.linalg.norm(computed - expected) < 1e-5 * np.linalg.norm(expected)


# Ratios between devices.


def timing(runtime: str, device: str, ratio: float, baseline_device: str = "cpu") -> Timing:
    pair = [
        Scripted("eager", 0.001),
        Scripted(runtime, ratio / 1000),
    ]
    pair[0].device, pair[1].device = baseline_device, device
    measured = measure(pair, TIMED_IMAGES, Schedule(seconds=60.0, fewest_rounds=8, most_rounds=8)).timings
    return measured[0 if runtime == "eager" else 1]


def rendered(*timings: Timing) -> str:
    from rich.console import Console

    console = Console(width=160, record=True, file=io.StringIO())
    run = Run(2, 8, 3, 0.1, 0.0, reached=True)
    environment = Environment("Linux", "3.11", "Made-up CPU", 1, {}, (Gpu("Made-up GPU", "8.6"),))
    report = Report(
        created="",
        command=None,
        model=None,
        artifacts=(),
        latency=Latency(1, (0,), Schedule(), (run,), timings),
        environment=environment,
    )
    for part in drawn(bench_parts(report)):
        console.print(part)
    return console.export_text()


def test_a_ratio_between_devices_says_so_and_what_it_is_worth() -> None:
    lines = rendered(timing("eager", "cpu", 1.0), timing("onnxruntime-cuda", "cuda", 0.12)).splitlines()
    assert "(cuda against cpu)" in lines[3]
    assert "(" not in lines[2]
    assert lines[2].index("1.000") == lines[3].index("0.120"), "the decimal points are below each other"
    assert "Made-up CPU, Made-up GPU" in lines[4]
    assert lines[5].strip() == "cuda against cpu: these ratios compare devices, not artifacts"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_ratios_on_one_device_need_no_mark(device: str) -> None:
    text = rendered(timing("eager", device, 1.0, device), timing("onnxruntime", device, 0.5, device))
    assert "(" not in text
    assert "not artifacts" not in text
