"""Reports that are logged to MLflow: by a stand-in of its client, and in `make test-all` by the real one."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from attn_export.cli import run
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.records.document import encode
from attn_export.exporter.workflows.tracking import EXPERIMENT, log
from tests.budgets.sample import sample_report


class Client:
    """MLflow's client as far as it is used; it keeps what it is asked for."""

    calls: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, tracking_uri: str) -> None:
        if "nowhere" in tracking_uri:
            raise ConnectionError("connection refused")

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_run(self, place: str, run_name: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="run-1"))

    def __getattr__(self, name: str) -> Any:
        return lambda *words: self.calls.append((name, *words))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.report.json"
    path.write_text(encode(sample_report()))
    return path


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    module = ModuleType("mlflow")
    module.MlflowClient = Client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setattr(Client, "calls", [])
    return Client.calls


def test_errors_and_latencies_become_metrics_and_the_file_an_artifact(
    client: list[tuple[Any, ...]], source: Path
) -> None:
    assert log(sample_report(), source, "http://127.0.0.1:1") == "run-1"
    names = {words[2] for words in client if words[0] == "log_metric"}
    timings = sample_report().latency.timings
    assert {"model.onnx/error ratio", *(f"{timing.label}/batch 1 median ms" for timing in timings)} <= names
    assert ("log_artifact", "run-1", str(source)) in client
    assert client[-1] == ("set_terminated", "run-1")


def test_a_server_that_is_not_there_is_an_error(
    client: list[tuple[Any, ...]], source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(("report", str(source), "--mlflow", "http://nowhere", "--quiet")) == RuntimeUnavailableError.exit_code
    assert "http://nowhere doesn't take the run: connection refused" in capsys.readouterr().err


def test_without_the_library_the_error_says_what_to_install(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(RuntimeUnavailableError, match="needs mlflow-skinny"):
        log(sample_report(), source, "http://127.0.0.1:1")


@pytest.mark.full
def test_mlflow_takes_a_run(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "runs").as_uri()
    number = log(sample_report(), source, uri)
    client = mlflow.MlflowClient(tracking_uri=uri)
    logged = client.get_run(number)
    assert client.get_experiment(logged.info.experiment_id).name == EXPERIMENT
    assert logged.data.metrics["model.onnx/error ratio"] > 0
    assert [entry.path for entry in client.list_artifacts(number)] == ["model.report.json"]
