"""An engine with its ONNX file, built once."""

import pytest

from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.records.engine import EngineFile
from tests.deployment.files import classifier
from tests.engine.building import build_file


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> EngineFile:
    """``a.engine`` for sm86 beside ``a.onnx``; nobody changes it."""
    pytest.importorskip("tensorrt_rtx")
    folder = tmp_path_factory.mktemp("built")
    return build_file(classifier(folder / "a.onnx"), folder / "a.engine", EngineSettings(gpus=("sm86",)))
