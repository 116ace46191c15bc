"""Which TensorRT is chosen, with packages that are there, that aren't, and that can't be imported."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from attn_export.exporter.engine.backend import INSTALL, MODULES, choose, load
from attn_export.exporter.errors import AttnExportError, RuntimeUnavailableError, UsageError

CLASSIC = '__version__ = "10.3.0"\n'
RTX = '__version__ = "1.7.1"\nclass ComputeCapability:\n    __members__ = {"NONE": 0, "CURRENT": 1, "SM86": 2}\n'
Installed = Callable[..., None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """``installed(tensorrt="...")``: packages of these contents are there, and no other TensorRT is."""

    def install(**contents: str) -> None:
        for module in MODULES.values():
            monkeypatch.setitem(sys.modules, module, None)  # which is how Python itself says "not there"
        for module, content in contents.items():
            (tmp_path / f"{module}.py").write_text(content)
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.syspath_prepend(str(tmp_path))

    return install


BOTH = {"tensorrt": CLASSIC, "tensorrt_rtx": RTX}


def only(*names: str) -> dict[str, str]:
    return {MODULES[name]: BOTH[MODULES[name]] for name in names}


@pytest.mark.parametrize(
    ("there", "has_gpu", "named_gpus", "chosen"),
    [
        (["tensorrt", "tensorrt-rtx"], True, False, "tensorrt"),
        (["tensorrt", "tensorrt-rtx"], True, True, "tensorrt-rtx"),
        (["tensorrt", "tensorrt-rtx"], False, False, "tensorrt-rtx"),
        (["tensorrt", "tensorrt-rtx"], False, True, "tensorrt-rtx"),
        (["tensorrt-rtx"], True, False, "tensorrt-rtx"),
        (["tensorrt-rtx"], False, False, "tensorrt-rtx"),
        (["tensorrt"], True, False, "tensorrt"),
    ],
)
def test_auto_takes_the_one_that_suits(
    installed: Installed, there: list[str], has_gpu: bool, named_gpus: bool, chosen: str
) -> None:
    installed(**only(*there))
    backend, why = choose("auto", named_gpus=named_gpus, has_gpu=has_gpu)
    assert backend.name == chosen
    assert backend.is_rtx == (chosen == "tensorrt-rtx")
    assert str(backend) == f"{chosen} {backend.version}"
    assert why


@pytest.mark.parametrize(
    ("there", "has_gpu", "named_gpus"),
    [
        ([], True, False),
        ([], True, True),
        ([], False, False),
        ([], False, True),
        (["tensorrt"], False, False),
        (["tensorrt"], False, True),
        (["tensorrt"], True, True),
    ],
)
def test_auto_says_what_to_install(installed: Installed, there: list[str], has_gpu: bool, named_gpus: bool) -> None:
    installed(**only(*there))
    with pytest.raises(RuntimeUnavailableError) as caught:
        choose("auto", named_gpus=named_gpus, has_gpu=has_gpu)
    error = caught.value
    assert error.exit_code == 5
    assert "tensorrt-rtx" in error.message
    assert ("no GPU" in error.message) == (not has_gpu)
    assert INSTALL["tensorrt-rtx"] in error.hint
    assert ("apt" in error.hint) == (INSTALL["tensorrt"] in error.hint), "JetPack's belongs to the classic one"


@pytest.mark.parametrize("name", MODULES)
def test_one_that_is_asked_for_by_name_is_taken_or_its_command_is_reported(installed: Installed, name: str) -> None:
    installed(**only(name))
    backend, why = choose(name, named_gpus=False, has_gpu=False)
    assert (backend.name, why) == (name, "as requested")
    (other,) = set(MODULES) - {name}
    with pytest.raises(RuntimeUnavailableError, match=f"^{other} is not installed$") as caught:
        choose(other, named_gpus=False, has_gpu=True)
    assert INSTALL[other] in caught.value.hint


def test_a_backend_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="--backend openvino") as caught:
        choose("openvino", named_gpus=False, has_gpu=False)
    assert all(name in caught.value.hint for name in ("auto", *MODULES))


BROKEN = [
    ("raise ImportError('libnvinfer.so.10: cannot open shared object file')", "libnvinfer.so.10"),
    ("import a_module_that_is_missing", "a_module_that_is_missing"),
    ("raise OSError('libcudart.so.12: cannot open shared object file')", "libcudart.so.12"),
    ("raise RuntimeError('CUDA driver version is insufficient')", "driver version"),
    ("raise FileNotFoundError('nvinfer_10.dll')", "nvinfer_10.dll"),
    ("raise AttributeError('numpy has no attribute bool')", "numpy has no attribute bool"),
    ("def (", "invalid syntax"),
]


@pytest.mark.parametrize(("content", "says"), BROKEN)
@pytest.mark.parametrize("name", MODULES)
def test_one_that_cannot_be_imported_says_why(installed: Installed, name: str, content: str, says: str) -> None:
    installed(**{MODULES[name]: content + "\n"})
    with pytest.raises(RuntimeUnavailableError, match=f"{name} can't be imported") as caught:
        load(name)
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert INSTALL[name] in caught.value.hint
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(("content", "says"), BROKEN)
def test_auto_says_why_the_ones_that_are_there_cannot_be_used(installed: Installed, content: str, says: str) -> None:
    """That they aren't installed would be wrong, and the command to install it of no help."""
    installed(tensorrt_rtx=content + "\n")
    with pytest.raises(AttnExportError) as caught:
        choose("auto", named_gpus=False, has_gpu=True)
    assert says in caught.value.message


def test_auto_goes_past_one_that_is_broken(installed: Installed) -> None:
    installed(tensorrt="raise OSError('libnvinfer.so.10')\n", tensorrt_rtx=RTX)
    backend, why = choose("auto", named_gpus=False, has_gpu=True)
    assert backend.name == "tensorrt-rtx"
    assert "libnvinfer.so.10" in why


def test_the_one_that_is_installed_is_found() -> None:
    pytest.importorskip("tensorrt_rtx")
    backend = load("tensorrt-rtx")
    assert backend.is_rtx
    names: Iterable[str] = backend.named_gpus
    assert all(name.startswith("sm") for name in names)
    assert backend.version.startswith("1.")
