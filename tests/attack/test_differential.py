"""What other readers refuse, ours refuses too: onnx's checker for graphs, picklescan for checkpoints."""

from pathlib import Path

import onnx
import pytest

from attn_export.exporter.checkpoint.container import read as read_checkpoint
from attn_export.exporter.errors import AttnExportError
from attn_export.exporter.graph.read import read as read_graph
from tests.attack.checkpoints import archive, called
from tests.attack.graphs import cases

# Cases whose file alone takes long to make or to check.
SLOW = ("100,000 nodes", "300,000 weights", "nested 10,000 times")


@pytest.mark.full
def test_graphs_that_onnx_refuses_are_refused(tmp_path: Path) -> None:
    refused, taken = 0, []
    for number, case in enumerate(
        case for case in cases() if "[inspect]" in case.name and not case.name.startswith(SLOW)
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        case.make(folder)
        try:
            onnx.checker.check_model(folder / "model.onnx")
        except Exception:
            refused += 1
            try:
                read_graph(folder / "model.onnx")
                taken.append(case.name)
            except AttnExportError:
                pass
    assert refused > 50
    assert taken == []


@pytest.mark.full
def test_names_that_picklescan_calls_dangerous_run_nothing(tmp_path: Path) -> None:
    """Each is refused, or is an inert object that is listed as not run."""
    scanner = pytest.importorskip("picklescan.scanner")
    path, taken = tmp_path / "model.pt", []
    for module, names in scanner._unsafe_globals.items():
        for name in ("anything",) if names == "*" else names:
            path.write_bytes(archive(called(module, name, ("touch ran",), "reduce")))
            try:
                payload = read_checkpoint(path)
            except AttnExportError:
                continue
            if f"{module}.{name}" not in payload.not_run:
                taken.append((module, name))
    assert taken == []
    assert not (tmp_path / "ran").exists()
