"""What an engine says of itself."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.engines.conftest import (
    Command,
    Done,
)


def test_inspect_lists_the_blocks_and_what_attention_adds(plain: Done, attn_export: Command) -> None:
    done = attn_export("inspect", str(plain["model.engine"]))
    assert done.returncode == 0, done.stderr
    cost = plain.artifact("model.engine")["cost"]
    for block in cost["blocks"]:
        row = next(line for line in done.stdout.splitlines() if line.startswith(block["module_path"]))
        assert row.split()[:3] == [block["module_path"], "CBAM", str(block["kernels"])]
    added = cost["kernels"] - cost["kernels_without_attention"]
    assert f"attention adds {added} kernels: {cost['kernels']} instead of" in done.stdout
    for words in ("sm86, sm89", "tensorrt-rtx", "1×3×16×16 to 8×3×16×16", "not run: no GPU", "float32, as the graph"):
        assert words in done.stdout


def test_inspect_gives_the_record_as_json(plain: Done, attn_export: Command) -> None:
    done = attn_export("inspect", str(plain["model.engine"]), "--json")
    own = json.loads(plain["model.engine.json"].read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == {"path": str(plain["model.engine"]), "engine": own, "schema_version": 3}


@pytest.fixture
def copied(plain: Done, folder: Path) -> Path:
    """An engine with its record, to be changed at will."""
    for name in ("model.engine", "model.engine.json"):
        shutil.copy(plain[name], folder / name)
    return folder / "model.engine"


def test_an_engine_without_its_record_says_nothing(refused: Command, copied: Path) -> None:
    copied.with_name("model.engine.json").unlink()
    done = refused(3, "inspect", "model.engine", says=["model.engine has no record"], hint="model.engine.json")
    assert "--trust" not in done.stderr, "inspect has no such option"


def test_a_changed_engine_is_noticed(refused: Command, copied: Path) -> None:
    content = bytearray(copied.read_bytes())
    content[len(content) // 2] ^= 1
    copied.write_bytes(content)
    done = refused(3, "inspect", "model.engine", says=["model.engine was changed after its build"])
    assert "--trust" not in done.stderr


def test_a_truncated_or_empty_engine_is_noticed(refused: Command, copied: Path) -> None:
    copied.write_bytes(copied.read_bytes()[:-1])
    refused(3, "inspect", "model.engine", says=["truncated"])
    copied.write_bytes(b"")
    refused(3, "inspect", "model.engine", says=["is empty"])


@pytest.mark.parametrize("name", ["nope.engine", "nope.plan"])
def test_an_engine_that_is_not_there(refused: Command, name: str) -> None:
    refused(3, "inspect", name, says=[name, "No such file"])


@pytest.mark.parametrize(
    "change",
    [
        {"cost": None},
        {"cost": {"kernels": 3}},
        {"build": {}},
        {"profile": {"input": {}}},
        {"kernels": []},
        {"precision": {}},
        {"failed": ["sm75"]},
        {"onnx": {"path": "a", "sha256": 5}},
    ],
    ids=lambda change: str(change),
)
def test_a_damaged_record_is_no_defect_of_ours(refused: Command, copied: Path, change: dict[str, Any]) -> None:
    path = copied.with_name("model.engine.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refused(3, "inspect", "model.engine", says=["model.engine.json"], hint="Build the engine again")
