"""Figures of the code: its size, its layers, and how much of it is typed.

python benchmarks/code_figures.py
"""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
# Where JSON, ONNX metadata and checkpoints are read and written as dictionaries.
BORDER = ("exporter/records/document.py", "exporter/checkpoint/")


def sources() -> list[Path]:
    return [ROOT / "cli.py", *sorted((ROOT / "exporter").rglob("*.py")), *sorted((ROOT / "models").rglob("*.py"))]


def untyped_dicts(tree: ast.AST) -> int:
    """How often ``dict[str, Any]`` is written."""
    return sum(isinstance(node, ast.Subscript) and ast.unparse(node) == "dict[str, Any]" for node in ast.walk(tree))


def string_subscripts(tree: ast.AST) -> int:
    """How often something is looked up by a constant string, annotations aside."""
    annotations = {id(part) for node in ast.walk(tree) for hint in _hints(node) for part in ast.walk(hint)}
    return sum(
        isinstance(node, ast.Subscript)
        and id(node) not in annotations
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
        for node in ast.walk(tree)
    )


def _hints(node: ast.AST) -> Iterator[ast.AST]:
    for name in ("annotation", "returns"):
        hint = getattr(node, name, None)
        if isinstance(hint, ast.AST):
            yield hint


def layer_of(module: str) -> str:
    parts = module.split(".")
    if parts[1] == "models":
        return "models"
    return parts[2] if len(parts) > 2 else "exporter"


def height(layer: str, below: dict[str, set[str]]) -> int:
    """The floor that a layer is on; the lowest is 1."""
    return 1 + max((height(other, below) for other in below[layer]), default=0)


def main() -> None:
    subprocess.run(["make", "-s", ".typing"], cwd=ROOT, check=True)
    sys.path.insert(0, str(ROOT / ".typing"))  # grimp doesn't follow editable installs
    graph = grimp.build_graph("attn_export.exporter", "attn_export.models")
    imported = {m: sorted(graph.find_modules_directly_imported_by(m)) for m in graph.modules}
    below: dict[str, set[str]] = defaultdict(set)
    for module, others in imported.items():
        below[layer_of(module)] |= {layer_of(other) for other in others} - {layer_of(module)}
    trees = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in sources()}
    inside = {name: tree for name, tree in trees.items() if not name.startswith(BORDER)}
    largest = max(imported, key=lambda m: len(imported[m]))
    loose = sorted(path.stem for path in (ROOT / "exporter").glob("*.py"))
    floors, edges = max(height(layer, below) for layer in list(below)), sum(map(len, below.values()))
    print(f"lines                        {sum(len(path.read_text().splitlines()) for path in sources())}")
    print(f"layers, floors, edges        {len(below)}, {floors}, {edges}")
    print(f"loose modules of exporter    {len(loose)}: {', '.join(loose)}")
    print(f"most own imports of a module {len(imported[largest])}: {largest}")
    print(f"modules with more than 15    {sum(len(others) > 15 for others in imported.values())}")
    print(f"dict[str, Any]               {sum(map(untyped_dicts, trees.values()))}")
    print(f"string subscripts            {sum(map(string_subscripts, inside.values()))} outside of the border")


if __name__ == "__main__":
    main()
