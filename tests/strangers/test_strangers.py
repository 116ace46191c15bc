"""A stranger's networks in every usual way of saving: each exports with at most one more option, which the error of the
plain command names."""

import importlib.util
import re
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from attn_export.cli import run
from attn_export.exporter.artifacts import LoadedModel
from attn_export.exporter.errors import AttnExportError
from tests.strangers.saving import ENDINGS, FROM_A_SCRIPT, PROGRAMS, SCRIPTS, WAYS, WEIGHTS, WHOLE

NETS = Path(__file__).with_name("nets.py")
# The inputs of a network with several have to be said; of the others a usual one is found.
INPUTS = {"TwoInputs": ("--input", "image=1x3x32x32", "--input", "meta=1x4")}
NETWORKS = ("SEResNet", "CBAMVGG", "UNet", "Detector", "TwoInputs")
# The option that a user finds in the error of the plain command.
EXPECTED = {
    **dict.fromkeys(WHOLE, "--code DIR"),
    **dict.fromkeys(FROM_A_SCRIPT, "--code FILE.py"),
    **dict.fromkeys(WEIGHTS, "--code FILE.py:CLASS"),
    **dict.fromkeys(SCRIPTS, "--code FILE.py:CLASS"),
    **dict.fromkeys(PROGRAMS, ""),
}


def imported(path: Path, name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Stranger:
    """A user's folder with the code, a network and the command."""

    def __init__(self, folder: Path, network: str, way: str) -> None:
        self.name, self.folder = network, folder
        place = "__main__" if way in FROM_A_SCRIPT else "nets"
        theirs = imported(Path(shutil.copy(NETS, folder / "nets.py")), place)
        torch.manual_seed(3)
        self.network = getattr(theirs, network)().eval()
        image = torch.randn(2, 3, 64, 64)
        self.example = (image, torch.randn(2, 4)) if network in INPUTS else (image,)
        self.path = folder / f"model{ENDINGS.get(way, '.pt')}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, place, theirs)
            WAYS[way](self.network, self.example, self.path)

    def arguments(self, option: str) -> tuple[str, ...]:
        """The words of a command; what an error leaves open in an option is the user's own."""
        word, _, value = option.partition(" ")
        own = {"FILE.py:CLASS": f"nets.py:{self.name}", "FILE.py": "nets.py", "DIR": "."}
        option_words = (word, own.get(value, value)) if value else (word,)
        return (str(self.path), "--onnx", "--no-bench", *INPUTS.get(self.name, ()), *(option_words if option else ()))


@pytest.fixture
def users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("nets", None)


def named_option(error: str) -> str:
    """The first option in a hint, with its value; empty where there is none."""
    found = re.search(r"--[a-z-]+(?: (?:DIR|FILE\.py:CLASS|FILE\.py)\b)?", error.rpartition("→")[2])
    return found[0] if found else ""


class LoadedInsteadOfExported(AttnExportError):
    exit_code = 0


@pytest.mark.parametrize(
    ("network", "way"),
    [*(("SEResNet", way) for way in WAYS), *((n, "state dict") for n in NETWORKS[1:])],
)
def test_every_way_loads_the_network_with_the_option_that_the_error_names(
    users_folder: Path, network: str, way: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded: list[LoadedModel] = []

    def keep(model: LoadedModel, *_: object) -> None:
        loaded.append(model)
        raise LoadedInsteadOfExported("")

    monkeypatch.setattr("attn_export.exporter.workflows.export.export_loaded", keep)
    stranger = Stranger(users_folder, network, way)
    code = run(stranger.arguments(""))
    option = named_option(capfd.readouterr().err) if code else ""
    assert option == EXPECTED[way]
    if option:
        sys.modules.pop("nets", None)
        assert run(stranger.arguments(option)) == 0, capfd.readouterr().err
    with torch.no_grad():
        expected, found = stranger.network(*stranger.example), loaded[0].module(*stranger.example)
    torch.testing.assert_close(found, expected, rtol=2e-2 if "half" in way else 0, atol=2e-3 if "half" in way else 0)


@pytest.mark.full
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("way", WAYS)
def test_every_network_exports_in_every_way(
    users_folder: Path, network: str, way: str, capfd: pytest.CaptureFixture[str]
) -> None:
    stranger = Stranger(users_folder, network, way)
    code = run(stranger.arguments(""))
    error = capfd.readouterr().err
    option = named_option(error) if code else ""
    assert option == EXPECTED[way], error
    if code:
        sys.modules.pop("nets", None)
        assert run(stranger.arguments(option)) == 0, capfd.readouterr().err
    assert (users_folder / "model.onnx").exists()
