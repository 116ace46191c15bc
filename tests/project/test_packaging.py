"""What is installed is what stands here: every module, under one name, and nothing else.

A subpackage that is forgotten in pyproject.toml works in an editable install and is missing for everybody else.
"""

import ast
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

tomllib: Any = pytest.importorskip("tomllib")  # from Python 3.11 on
ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("exporter", "models")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def modules() -> set[str]:
    """Every file that is to be installed, as it stands in the installed package."""
    found = {"attn_export/__init__.py", "attn_export/__main__.py", "attn_export/cli.py"}
    for folder in FOLDERS:
        found |= {f"attn_export/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / folder).rglob("*.py")}
    return found


def templates() -> set[str]:
    """Templates of the report's page and of a bundle's README."""
    page = ROOT / "exporter" / "report" / "page" / "templates"
    paths = [*page.iterdir(), ROOT / "exporter" / "bundle" / "README.md.template"]
    return {f"attn_export/{p.relative_to(ROOT).as_posix()}" for p in paths}


def packages() -> set[str]:
    return {"attn_export"} | {
        "attn_export." + init.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for folder in FOLDERS
        for init in (ROOT / folder).rglob("__init__.py")
    }


def test_the_list_of_packages_is_what_stands_on_the_disk(project: dict[str, Any]) -> None:
    listed = project["tool"]["setuptools"]["packages"]
    assert len(set(listed)) == len(listed)
    assert set(listed) == packages()


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_with_modules_is_a_package(folder: str) -> None:
    for module in (ROOT / folder).rglob("*.py"):
        assert (module.parent / "__init__.py").exists(), module


def test_nothing_stands_in_the_root_that_would_be_installed_by_accident() -> None:
    assert {p.name for p in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "cli.py"}


def test_the_version_is_one_number(project: dict[str, Any]) -> None:
    assert version("attn-export") == project["project"]["version"]
    assert Version(project["project"]["version"])


def elsewhere(code: str, folder: Path) -> str:
    """What the code prints, run where no file of the checkout can be found by luck."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_users_own_models_exporter_and_cli_are_not_taken(tmp_path: Path) -> None:
    code = "import importlib.util as u; print(*[n for n in ('models', 'exporter', 'cli', 'tests') if u.find_spec(n)])"
    assert elsewhere(code, tmp_path) == "\n"


def test_no_module_imports_another_by_a_name_without_the_namespace(tmp_path: Path) -> None:
    names = [module.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for module in sorted(modules())]
    code = f"import importlib, sys; [importlib.import_module(n) for n in {names!r}]; print(*sys.modules)"
    imported = {name.partition(".")[0] for name in elsewhere(code, tmp_path).split()}
    assert "attn_export" in imported
    assert not imported & {"models", "exporter", "cli"}


def test_importing_the_package_costs_nothing_and_gives_the_version() -> None:
    code = "import sys; before = set(sys.modules); import attn_export; print(sorted(set(sys.modules) - before)); "
    loaded, number = elsewhere(code + "print(attn_export.__version__)", ROOT.parent).splitlines()
    assert loaded == "['attn_export']"
    assert number == version("attn-export")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, so that an old build folder can't add to it and nothing is left here."""
    if importlib.util.find_spec("setuptools") is None or importlib.util.find_spec("pip") is None:
        pytest.skip("setuptools and pip are needed to build a wheel without the network")
    if Version(version("setuptools")) < Version("77"):
        pytest.skip(f"setuptools 77 is needed, {version('setuptools')} is here")
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "__init__.py", "__main__.py", "cli.py"):
        shutil.copy(ROOT / name, source / name)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    done = subprocess.run(
        [*command, "-w", str(place), str(source)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    (built,) = place.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_every_module_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    typed = {f"attn_export/{folder}/py.typed" for folder in FOLDERS}
    assert inside == modules() | typed | templates()


def test_the_wheel_installs_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = [n for n in wheel.namelist() if n.endswith("entry_points.txt")]
    assert "attn-export = attn_export.__main__:main" in wheel.read(entry_points).decode()
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


WITHOUT_CHECKOUT = """
import sys
sys.path.insert(0, sys.argv[1])
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
import attn_export.cli, attn_export.exporter.workflows.export, attn_export.exporter.checkpoint.create
print({m.__file__.removeprefix(sys.argv[1]) for n, m in sys.modules.items() if n.startswith("attn_export.")})
assert all(m.__file__.startswith(sys.argv[1]) for n, m in sys.modules.items() if n.startswith("attn_export."))
sys.exit(attn_export.cli.run(["--help"]))
"""


def test_what_the_wheel_holds_works_without_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """The wheel's files stand where the editable install is not looked for."""
    wheel.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_CHECKOUT, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "--onnx" in done.stdout


def test_every_dependency_has_a_floor(project: dict[str, Any]) -> None:
    for text in project["project"]["dependencies"]:
        requirement = Requirement(text)
        assert any(s.operator in (">=", "~=", "==") for s in requirement.specifier), f"{text} takes any version"


def test_every_module_that_is_imported_is_a_dependency(project: dict[str, Any]) -> None:
    """A dependency of a dependency may be gone tomorrow."""
    declared = {canonicalize_name(Requirement(text).name) for text in project["project"]["dependencies"]}
    imported = set()
    for module in modules():
        tree = ast.parse((ROOT / module.removeprefix("attn_export/")).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.partition(".")[0] for name in names}
    foreign = {canonicalize_name(name) for name in imported - set(sys.stdlib_module_names) - {"attn_export"}}
    optional = {
        "timm",
        "torchvision",
        "tensorrt",
        "tensorrt-rtx",
        "cuda",
        "matplotlib",
        "jinja2",
        "pynvml",
        "pil",
        "ray",
        "cryptography",
        "mlflow",
    }
    assert foreign - optional <= declared


@pytest.fixture(scope="module")
def pinned() -> dict[str, str]:
    path = ROOT / "constraints.txt"
    lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    pins: dict[str, str] = {}
    for line in filter(None, lines):
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"{line} is no pin"
        assert not requirement.url, f"{line}: constraints name versions, not places"
        pins[canonicalize_name(requirement.name)] = specifier.version
    return pins


def test_the_constraints_pin_every_dependency(project: dict[str, Any], pinned: dict[str, str]) -> None:
    extras = project["project"]["optional-dependencies"]
    tested = [*project["project"]["dependencies"], *extras["dev"], *extras["rtx"], *extras["examples"]]
    for text in tested:
        requirement = Requirement(text)
        if requirement.name == "attn-export":
            continue
        pin = pinned.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not pinned"
        assert requirement.specifier.contains(pin), f"{text} forbids the pinned {pin}"


def test_the_constraints_pin_what_has_a_build_without_cuda(pinned: dict[str, str]) -> None:
    assert pinned["torch"] == "2.13.0"
    assert pinned["tensorrt-rtx"] == "1.7.1.116"


def test_what_is_tested_is_what_is_pinned(pinned: dict[str, str]) -> None:
    if Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip("this environment was not made by `make`")
    for package in ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy", "typer", "rich"):
        assert version(package).partition("+")[0] == pinned[package], package
