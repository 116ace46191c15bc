"""Model repositories judged and served by Triton itself, which needs no GPU. `make test-all` fetches its server."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from onnx import TensorProto

from attn_export.exporter.workflows.package_triton import TritonSettings, write_repository
from attn_export.exporter.workflows.verify import sign_folder
from tests.deployment.files import PIXELS, classifier, write_keys

SITE = Path(__file__).resolve().parents[2] / ".triton"
SERVER = SITE / "pytriton" / "tritonserver"
SECONDS = 60

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not (SERVER / "bin" / "tritonserver").exists(), reason="make test-all fetches the server"),
]

# Runs the repository's file in its Python backend; the server in the wheel has no other.
MODEL_PY = f"""\
import sys
sys.path.insert(0, {str(SITE)!r})
from pathlib import Path
import onnxruntime
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        self.session = onnxruntime.InferenceSession(str(Path(__file__).with_name("model.onnx")))

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        taken = [value.name for value in self.session.get_inputs()]
        feeds = {{name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in taken}}
        names = [value.name for value in self.session.get_outputs()]
        answers = zip(names, self.session.run(names, feeds))
        return triton.InferenceResponse([triton.Tensor(name, array) for name, array in answers])
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    source = classifier(tmp_path / "good.onnx", ("batch", 8, 8, 3), PIXELS, TensorProto.UINT8)
    (model,) = write_repository([source], tmp_path / "models", TritonSettings())
    sign_folder(model, write_keys(tmp_path)[0])
    return tmp_path / "models"


@contextmanager
def running(repository: Path, log: Path, *options: str, backends: Path = SERVER / "backends") -> Iterator[None]:
    command = [str(SERVER / "bin" / "tritonserver"), f"--model-repository={repository}", "--exit-on-error=false"]
    command += ["--allow-grpc=false", "--allow-metrics=false", f"--backend-directory={backends}", *options]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(SITE / "nvidia_pytriton.libs"), "OMP_NUM_THREADS": "1"}
    with log.open("w") as stream, subprocess.Popen(command, stdout=stream, stderr=stream, env=environment) as server:
        try:
            yield
        finally:
            server.kill()


def until(found: Callable[[], Any], log: Path) -> Any:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with suppress(OSError):
            if answer := found():
                return answer
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def with_python_backend(repository: Path) -> Path:
    """Change the model to one of the Python backend that runs its file; warm-up, labels and all else stay."""
    model, backends = repository / "good", repository.parent / "backends"
    shutil.copytree(SERVER / "backends", backends)
    shutil.copy(SERVER / "python_backend_stubs" / "3.11" / "triton_python_backend_stub", backends / "python")
    config = (model / "config.pbtxt").read_text().replace('platform: "onnxruntime_onnx"', 'backend: "python"')
    (model / "config.pbtxt").write_text(config.replace('default_model_filename: "model.onnx"\n', ""))
    (model / "1" / "model.py").write_text(MODEL_PY)
    return backends


def plant(mistake: tuple[str, str, str], repository: Path) -> str:
    """Make a mistake in the configuration; returns what the server should say."""
    good, bad, says = mistake
    config = repository / "good" / "config.pbtxt"
    assert good in config.read_text()
    config.write_text(config.read_text().replace(good, bad, 1))
    return says


def verdict_on(repository: Path, backends: Path = SERVER / "backends") -> str:
    """The server's line about the model in its table of statuses."""
    log = repository.parent / "server.log"

    def status() -> str:
        lines = [line for line in log.read_text().splitlines() if line.startswith("| ")]
        return next((line for line in lines if "UNAVAILABLE" in line or "READY" in line), "")

    with running(repository, log, "--allow-http=false", backends=backends):
        line = until(lambda: status() or ("rejected" if "failed to load all models" in log.read_text() else ""), log)
    return line if "UNAVAILABLE" in line or "READY" in line else log.read_text()


def test_the_server_lacks_nothing_but_its_onnx_backend(repository: Path) -> None:
    assert "unable to find backend library for backend 'onnxruntime'" in verdict_on(repository)


MISTAKES = {
    "unknown-field": ("max_batch_size:", "max_batch_siz:", 'has no field named "max_batch_siz"'),
    "unknown-type": ("TYPE_UINT8", "TYPE_PIXEL", "TYPE_PIXEL"),
    "other-name": ('name: "good"', 'name: "bad"', "directory name must equal model name"),
    "preferred-beyond-largest": (
        "dynamic_batching {\n",
        "dynamic_batching {\n  preferred_batch_size: 16\n",
        "must be <= max batch size",
    ),
    "negative-batch": ("max_batch_size: 8", "max_batch_size: -8", "must be non-negative"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_server_refuses_planted_mistakes(mistake: str, repository: Path) -> None:
    says = plant(MISTAKES[mistake], repository)
    verdict = verdict_on(repository)
    assert says in verdict
    assert "unable to find backend library" not in verdict


def test_the_server_runs_the_warm_up_and_refuses_that_of_another_input(repository: Path) -> None:
    backends = with_python_backend(repository)
    says = plant(('key: "input"', 'key: "other"', "missing required input(s) ['input']"), repository)
    assert says in verdict_on(repository, backends)


def test_the_configuration_is_the_message_that_clients_know(repository: Path) -> None:
    """Its module is loaded alone: the package around it wants gRPC."""
    place = SITE / "tritonclient" / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (repository / "good" / "config.pbtxt").read_text()
    config = text_format.Parse(text, module.ModelConfig())
    assert (config.max_batch_size, list(config.input[0].dims)) == (8, [8, 8, 3])
    with pytest.raises(text_format.ParseError):
        text_format.Parse(text.replace("max_batch_size", "max_batch_siz"), module.ModelConfig())


def test_the_served_answers_are_those_of_the_file(repository: Path, tmp_path: Path) -> None:
    model, backends = repository / "good", with_python_backend(repository)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    session = onnxruntime.InferenceSession(model / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input": pixels})
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    given = {"name": "input", "shape": pixels.shape, "datatype": "UINT8", "data": pixels.ravel().tolist()}

    def ask(**options: Any) -> Any:
        body = json.dumps({"inputs": [given], **options}).encode()
        address = f"http://127.0.0.1:{port}/v2/models/good/infer"
        with urllib.request.urlopen(urllib.request.Request(address, body), timeout=SECONDS) as answer:
            return json.load(answer)["outputs"][0]["data"]

    log = tmp_path / "server.log"
    with running(repository, log, "--http-address=127.0.0.1", f"--http-port={port}", backends=backends):
        np.testing.assert_allclose(until(ask, log), expected.ravel(), rtol=1e-6)
        (best, _) = ask(outputs=[{"name": "output", "parameters": {"classification": 1}}])
    names = PIXELS["class_names"]
    assert best.split(":")[1:] == [str(expected[0].argmax()), names[expected[0].argmax()]]
