"""The architecture's rules that layers of imports can't express. Each test names every offender."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = "attn_export"
CHARTS_AND_PAGE = (f"{OURS}.exporter.report.charts", f"{OURS}.exporter.report.page")
DRAWS = ("report", "write.py")


def files(*places: str) -> list[Path]:
    """The modules in these folders."""
    found = [path for place in places for path in sorted((ROOT / place).rglob("*.py"))]
    assert found, places
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def nodes(root: ast.AST, *, at_import: bool = False) -> Iterator[ast.AST]:
    """Every node outside of ``if TYPE_CHECKING``; with ``at_import`` only those outside of functions."""
    for child in ast.iter_child_nodes(root):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from nodes(child, at_import=at_import)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path, *, at_import: bool = False) -> set[str]:
    """Full names: ``from a.b import c`` is a.b and a.b.c."""
    found = set()
    for node in nodes(tree(path), at_import=at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages(path: Path) -> set[str]:
    """Top-level names from outside of Python and of the project."""
    return {name.partition(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {OURS}


def calls(path: Path) -> Iterator[str]:
    """The called expressions, as they are written."""
    for node in nodes(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def offenders(found: Iterable[tuple[Path, set[str]]]) -> dict[str, list[str]]:
    """The files with something forbidden, and what that is."""
    return {name_of(path): sorted(forbidden) for path, forbidden in found if forbidden}


def test_imports_in_functions_are_seen_and_those_for_type_checkers_are_not(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(
        "import a.b\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import c\n"
        "def f():\n    from d import e\nclass G:\n    import h\n"
    )
    assert imports(path) == {"a.b", "typing", "typing.TYPE_CHECKING", "d", "d.e", "h"}
    assert imports(path, at_import=True) == {"a.b", "typing", "typing.TYPE_CHECKING", "h"}


def test_models_import_torch_and_themselves_only() -> None:
    def foreign(path: Path) -> set[str]:
        ours = {name for name in imports(path) if name.partition(".")[0] == OURS}
        return {name for name in ours if not name.startswith(f"{OURS}.models")} | packages(path) - {"torch"}

    assert not offenders((path, foreign(path)) for path in files("models"))


def test_cleanup_sees_graphs_and_never_a_file_or_torch() -> None:
    modules = {"torch", "pathlib", "os", "io", "shutil", "tempfile", "onnxruntime"}
    opening = {"open", "ir.load", "ir.save", "onnx.load", "onnx.save"}

    def forbidden(path: Path) -> set[str]:
        read = {name for name in calls(path) if name in opening or name.endswith(("read_text", "write_text"))}
        return {name.partition(".")[0] for name in imports(path)} & modules | read

    graphs = [path for path in files("exporter/cleanup") if path.name != "inspect.py"]  # it outlines files
    assert not offenders((path, forbidden(path)) for path in graphs)


def test_latency_needs_no_torch_and_no_onnx() -> None:
    def forbidden(path: Path) -> set[str]:
        reads = {"gpu_state.py": {"pynvml"}, "cpu_state.py": {"psutil"}}.get(path.name, set())
        return packages(path) - {"numpy", "typing_extensions", "msgspec"} - reads

    measuring = [path for path in files("exporter/latency") if path.parent.name == "latency"]
    assert not offenders((path, forbidden(path)) for path in measuring)
    assert not offenders((path, imports(path, at_import=True) & {"pynvml"}) for path in measuring)


def test_a_report_renders_and_measures_nothing() -> None:
    drawing = {"charts": {"matplotlib", "numpy"}, "page": {"jinja2"}}
    usual = {"rich", "typing_extensions", "msgspec"}
    assert not offenders((p, packages(p) - drawing.get(p.parent.name, usual)) for p in files("exporter/report"))


def test_a_page_is_drawn_only_where_one_was_asked_for() -> None:
    """All else works without matplotlib and Jinja2."""
    others = [p for p in files("exporter") if p.parent.name not in ("charts", "page") and p.parts[-2:] != DRAWS]
    drawing = [(p, {name for name in imports(p) if name.startswith(CHARTS_AND_PAGE)}) for p in others]
    assert not offenders(drawing)


def test_only_latency_and_what_takes_long_read_the_clock() -> None:
    """For progress, for the record of opening and building, and for limits of time."""
    allowed = {
        f"exporter/{name}.py"
        for name in ("report/live", "runtimes/base", "engine/build", "sweep/work", "system/bounds")
    }
    others = [p for p in files("exporter") if "latency" not in p.parts and name_of(p) not in allowed]
    assert not offenders((path, imports(path) & {"time"}) for path in others)


def test_only_the_command_line_prints_and_ends_the_process() -> None:
    printing = {"print", "typer.echo", "rich.print", "sys.stdout.write", "sys.stderr.write"}
    ending = {"exit", "sys.exit", "os._exit"}

    def forbidden(path: Path) -> set[str]:
        called = {c for c in calls(path) if c in printing | ending or c.endswith((".print", ".print_exc"))}
        return called | {name for name in imports(path) if name.startswith("rich.console.Console")}

    printers = ("live.py", "console.py")
    library = [p for p in files("exporter", "models") if p.parent.name != "commands" and p.name not in printers]
    assert not offenders((path, forbidden(path)) for path in library)
    commands = [path for path in files("exporter") if path not in library]
    assert not offenders((path, set(calls(path)) & ending) for path in commands)


def test_the_library_raises_its_own_errors_or_python_s_for_wrong_calls() -> None:
    """A bare Exception or RuntimeError would reach the user as a defect."""
    bare = {"Exception", "BaseException", "RuntimeError", "AssertionError", "SystemExit"}

    def raised(path: Path) -> set[str]:
        return {
            ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
            for node in nodes(tree(path))
            if isinstance(node, ast.Raise) and node.exc is not None
        }

    assert not offenders((path, raised(path) & bare) for path in files("exporter"))


# The layers themselves are a contract in pyproject.toml.


@pytest.mark.parametrize(
    "planted",
    [
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from attn_export.exporter.workflows import clean\n",
        "def late() -> None:\n    from attn_export.exporter.workflows import clean\n",
    ],
    ids=["for type checkers", "in a function"],
)
def test_an_upward_import_breaks_the_contract(planted: str, tmp_path: Path) -> None:
    package = tmp_path / OURS
    for part in ("exporter", "models"):
        shutil.copytree(ROOT / part, package / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "cli.py", package)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert lint_imports(tmp_path).returncode == 0
    module = package / "exporter" / "graph" / "facts.py"
    module.write_text(f"{module.read_text(encoding='utf-8')}\n\n{planted}", encoding="utf-8")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert "attn_export.exporter.graph.facts -> attn_export.exporter.workflows.clean" in " ".join(done.stdout.split())


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
