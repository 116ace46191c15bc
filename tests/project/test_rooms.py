"""The architecture, as rules on imports: who may know whom. See docs/architecture.md."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = "attn_export"
# Each takes between a tenth of a second and several seconds to import.
HEAVY = {
    *("torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "numpy", "tensorrt", "tensorrt_rtx"),
    *("rich", "matplotlib", "jinja2"),
}


def files(*places: str) -> list[Path]:
    """The modules in these folders, or these modules."""
    found = []
    for place in places:
        path = ROOT / place
        found += [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))
    assert found, places
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def nodes(root: ast.AST, *, run_at_import: bool = False) -> Iterator[ast.AST]:
    """Every node, except what only type checkers read; with ``run_at_import`` also without what stands in functions."""
    for child in ast.iter_child_nodes(root):
        if is_type_checking(child):
            continue
        if run_at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield child
        yield from nodes(child, run_at_import=run_at_import)


def imports(path: Path, *, run_at_import: bool = False) -> set[str]:
    """Full names: ``from a.b import c`` is a.b and a.b.c."""
    found = set()
    for node in nodes(tree(path), run_at_import=run_at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: imports are absolute"
            assert node.module
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def foreign(path: Path) -> set[str]:
    """Top-level names from outside of Python and of the project."""
    return {name.partition(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {OURS}


def rooms_entered(path: Path) -> set[str]:
    """The second part of ``attn_export.exporter.<room>``."""
    prefix = f"{OURS}.exporter."
    return {name.removeprefix(prefix).partition(".")[0] for name in imports(path) if name.startswith(prefix)}


def calls(path: Path) -> Iterator[tuple[str, int]]:
    """What is called, as it is written, and the line."""
    for node in nodes(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


# The tools of this file.


def test_the_rules_see_imports_in_functions_and_not_those_for_type_checkers(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(
        "import a.b\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import c\n"
        "def f():\n    from d import e\nclass G:\n    import h\n"
    )
    assert imports(path) == {"a.b", "typing", "typing.TYPE_CHECKING", "d", "d.e", "h"}
    assert imports(path, run_at_import=True) == {"a.b", "typing", "typing.TYPE_CHECKING", "h"}


# models


@pytest.mark.parametrize("path", files("models"), ids=name_of)
def test_models_know_torch_and_themselves_only(path: Path) -> None:
    assert foreign(path) <= {"torch"}
    assert all(name.startswith(f"{OURS}.models") for name in imports(path) if name.partition(".")[0] == OURS)


# The exporter's rooms: left the room, right those it may never enter.

FORBIDDEN = {
    "checkpoint": "capture cleanup runtimes validation latency report workflow onnx_file",
    "capture.py": "checkpoint cleanup runtimes validation latency report workflow onnx_file",
    "cleanup": "checkpoint capture runtimes validation latency report workflow onnx_file files",
    "precision": "checkpoint capture cleanup engine runtimes latency report workflow",
    "engine": "checkpoint capture precision.typed_file runtimes validation latency report workflow",
    "kit": "checkpoint capture cleanup latency workflow deploying from_file",
    "environment": "checkpoint capture cleanup engine runtimes validation latency report workflow",
    "runtimes": "checkpoint capture cleanup validation latency report workflow",
    "validation": "checkpoint capture cleanup latency report workflow",
    "latency": "checkpoint capture cleanup validation report workflow onnx_file",
    "budgets": "checkpoint capture cleanup runtimes validation latency comparing report workflow onnx_file",
    "comparing": "checkpoint capture cleanup runtimes validation report workflow onnx_file",
    "attention_cost": "checkpoint capture engine validation report workflow onnx_file",
    "report": "checkpoint capture cleanup runtimes workflow onnx_file",
}


@pytest.mark.parametrize(
    ("path", "forbidden"),
    [
        pytest.param(path, set(forbidden.split()), id=name_of(path))
        for room, forbidden in FORBIDDEN.items()
        for path in files(f"exporter/{room}")
    ],
)
def test_data_moves_one_way(path: Path, forbidden: set[str]) -> None:
    assert not rooms_entered(path) & forbidden


@pytest.mark.parametrize("path", [p for p in files("exporter") if p.parent.name != "commands"], ids=name_of)
def test_the_exporter_does_not_know_the_command_line(path: Path) -> None:
    command_line = (f"{OURS}.cli", f"{OURS}.exporter.commands", "typer")
    assert not {name for name in imports(path) if name.startswith(command_line)}


@pytest.mark.parametrize("path", files("exporter/cleanup"), ids=name_of)
def test_cleanup_sees_graphs_and_never_a_file_or_torch(path: Path) -> None:
    names = {name.partition(".")[0] for name in imports(path)}
    assert not names & {"torch", "pathlib", "os", "io", "shutil", "tempfile", "onnxruntime"}
    opening = {"open", "ir.load", "ir.save", "onnx.load", "onnx.save"}
    assert not [
        f"{called}, line {line}" for called, line in calls(path) if called in opening or called.endswith("_text")
    ]


@pytest.mark.parametrize("path", files("exporter/latency"), ids=name_of)
def test_latency_needs_no_torch_and_no_onnx(path: Path) -> None:
    assert foreign(path) <= {"numpy", "typing_extensions", *({"pynvml"} if path.name == "gpu_state.py" else ())}
    assert "pynvml" not in imports(path, run_at_import=True)


@pytest.mark.parametrize("path", files("exporter/report"), ids=name_of)
def test_a_report_renders_and_measures_nothing(path: Path) -> None:
    drawing = {"charts": {"matplotlib", "numpy"}, "page": {"jinja2"}}
    assert foreign(path) <= drawing.get(path.parent.name, {"rich", "typing_extensions"})


@pytest.mark.parametrize("path", [p for p in files("exporter") if p.name != "reporting.py"], ids=name_of)
def test_a_page_is_drawn_only_where_one_was_asked_for(path: Path) -> None:
    """Everything else works without matplotlib and Jinja2."""
    drawing = tuple(f"{OURS}.exporter.report.{room}" for room in ("page", "charts"))
    assert path.parent.name in ("page", "charts") or not {name for name in imports(path) if name.startswith(drawing)}


@pytest.mark.parametrize(
    "path", [p for p in files("exporter") if p.parent.name != "latency" and p.name != "live.py"], ids=name_of
)
def test_only_latency_and_the_runtimes_own_opening_read_the_clock(path: Path) -> None:
    if name_of(path) in ("exporter/runtimes/base.py", "exporter/engine/build.py"):  # how long opening and building took
        return
    assert "time" not in imports(path)


# Printing.


@pytest.mark.parametrize(
    "path",
    [p for p in files("exporter", "models") if p.name != "live.py" and p.parent.name != "commands"],
    ids=name_of,
)
def test_only_the_command_line_prints(path: Path) -> None:
    printing = [
        f"{called}, line {line}"
        for called, line in calls(path)
        if called in ("print", "typer.echo", "rich.print", "sys.stdout.write", "sys.stderr.write")
        or called.endswith((".print", ".print_exc", ".print_json"))
    ]
    assert not printing
    assert not {name for name in imports(path) if name.startswith("rich.console.Console")}


@pytest.mark.parametrize("path", files("exporter", "models"), ids=name_of)
def test_only_the_command_line_ends_the_process(path: Path) -> None:
    assert not [f"{called}, line {line}" for called, line in calls(path) if called in ("exit", "sys.exit", "os._exit")]


# What `attn-export --help` has to wait for.

LIGHT = [
    "cli.py",
    "exporter/__init__.py",
    "exporter/commands/__init__.py",
    "exporter/commands/bench.py",
    "exporter/commands/build.py",
    "exporter/commands/clean.py",
    "exporter/commands/compare.py",
    "exporter/commands/console.py",
    "exporter/commands/create.py",
    "exporter/commands/doctor.py",
    "exporter/commands/engine_options.py",
    "exporter/commands/export.py",
    "exporter/commands/inspect.py",
    "exporter/commands/latency_options.py",
    "exporter/commands/models.py",
    "exporter/commands/options.py",
    "exporter/commands/validate.py",
    "exporter/devices.py",
    "exporter/precision/__init__.py",
    "exporter/precision/kinds.py",
    "exporter/errors.py",
    "exporter/artifacts.py",
    "exporter/target.py",
    "exporter/files.py",
    *(f"exporter/environment/{path.name}" for path in files("exporter/environment")),
    "exporter/progress.py",
]


@pytest.mark.parametrize("place", LIGHT)
def test_light_modules_import_nothing_heavy_at_once(place: str) -> None:
    at_once = imports(ROOT / place, run_at_import=True)
    assert not {name.partition(".")[0] for name in at_once} & HEAVY
    own = {name.removeprefix(f"{OURS}.").replace(".", "/") + ".py" for name in at_once if name.startswith(f"{OURS}.")}
    assert {name for name in own if (ROOT / name).exists()} <= set(LIGHT), "what they import has to be light too"


# Exceptions.


@pytest.mark.parametrize("path", files("exporter"), ids=name_of)
def test_the_library_raises_its_own_errors_or_python_s_for_wrong_calls(path: Path) -> None:
    """A bare Exception or RuntimeError would reach the user as a defect."""
    raised = [
        ast.unparse(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
        for node in nodes(tree(path))
        if isinstance(node, ast.Raise) and node.exc is not None
    ]
    assert not set(raised) & {"Exception", "BaseException", "RuntimeError", "AssertionError", "SystemExit"}
