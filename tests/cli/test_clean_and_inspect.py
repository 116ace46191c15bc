"""The two commands for ONNX files from elsewhere: cleaned, with every rewrite proven, and their attention listed."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from attn_export.cli import run
from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup import pipeline
from attn_export.exporter.cleanup.inspect import inspect_file
from attn_export.exporter.cleanup.rule import Builder, Context, MatchResult, Rule
from attn_export.exporter.cleanup.rules import RULES
from attn_export.exporter.errors import OutputError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.workflows import clean as cleaning
from attn_export.exporter.workflows.clean import clean_file
from attn_export.models.registry import create

Finished = subprocess.CompletedProcess[str]
Command = Callable[..., Finished]
Contents = Callable[[], dict[str, bytes | None]]
BLOCK = {"kind", "module_path", "channels", "reduction", "kernel", "gates", "maps", "nodes", "nodes_before"}


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zoo's smallest network with CBAM, as PyTorch's older exporter writes it."""
    import warnings

    import torch

    path = tmp_path_factory.mktemp("exported") / "raw.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            create("cbam_resnet8"),
            (torch.zeros(1, 3, 32, 32),),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["input"],
            dynamic_axes={"input": {0: "batch"}},
        )
    return path


@pytest.fixture
def raw(folder: Path, exported: Path) -> Path:
    """That file as raw.onnx in the folder that the command runs in."""
    shutil.copy(exported, folder / "raw.onnx")
    return folder / "raw.onnx"


# clean


@pytest.mark.parametrize("target", list(Target))
def test_what_is_written_is_what_python_writes(
    attn_export: Command, raw: Path, contents: Contents, tmp_path: Path, target: Target
) -> None:
    before = contents()
    options = [] if target is Target.ANY else ["--for", target.value]
    done = attn_export("clean", "raw.onnx", "-o", "clean.onnx", *options)
    assert done.returncode == 0, done.stderr
    expected = clean_file(raw, tmp_path / "expected.onnx", target=target).path.read_bytes()
    assert contents() == {**before, "clean.onnx": expected}


def test_the_table_lists_every_block(attn_export: Command, raw: Path) -> None:
    done = attn_export("clean", "raw.onnx", "-o", "clean.onnx")
    rows = [line.split() for line in done.stdout.splitlines() if " CBAM " in line]
    blocks = inspect_file("clean.onnx")
    assert [row[0] for row in rows] == [block.module_path for block in blocks]
    assert len(rows) == 3
    assert [int(row[-1]) for row in rows] == [len(block.nodes) for block in blocks]
    assert [int(row[-3]) for row in rows] == [block.nodes_before for block in blocks], "before → after"


def test_the_summary_names_the_file_and_what_was_proven(attn_export: Command, raw: Path, folder: Path) -> None:
    done = attn_export("clean", "raw.onnx", "-o", "new/clean.onnx")
    words = " ".join(done.stdout.split())
    counts = [len(onnx.load(folder / name).graph.node) for name in ("raw.onnx", "new/clean.onnx")]
    assert re.search(rf"new/clean\.onnx {counts[0]} → {counts[1]} nodes, \d+ rewrites, all proven", words)
    assert re.search(r"error against the source graph \S+, baseline error \S+", words)


def test_without_explain_no_rule_is_named(attn_export: Command, raw: Path) -> None:
    assert "fold BatchNorm" not in attn_export("clean", "raw.onnx", "-o", "clean.onnx").stdout


def test_explain_says_how_often_each_rule_fired_and_why_others_did_not(attn_export: Command, raw: Path) -> None:
    done = attn_export("clean", "raw.onnx", "-o", "clean.onnx", "--explain")
    assert done.returncode == 0
    result = clean_file(raw, "other.onnx")
    for rule in {firing.rule for firing in result.cleaned.applied}:
        count = sum(firing.rule == rule for firing in result.cleaned.applied)
        assert re.search(rf"{re.escape(rule)} +{count} ", done.stdout), rule
    assert result.cleaned.skipped
    for miss in result.cleaned.skipped:
        assert miss.rule in done.stdout
        assert miss.reason.split()[0] in done.stdout
    assert "Reverted rewrites" not in done.stdout


def test_explain_of_a_clean_file_has_nothing_to_tell(attn_export: Command, raw: Path) -> None:
    attn_export("clean", "raw.onnx", "-o", "clean.onnx")
    done = attn_export("clean", "clean.onnx", "-o", "clean.onnx", "--explain")
    assert done.returncode == 0, done.stderr
    assert " 0 rewrites" in done.stdout
    assert "No rule fired" in done.stdout


def test_a_second_cleanup_changes_no_byte(attn_export: Command, raw: Path, folder: Path) -> None:
    for target in ([], ["--for", "tensorrt"], ["--for", "onnxruntime"]):
        assert attn_export("clean", "raw.onnx", "-o", "clean.onnx", *target).returncode == 0
        before = (folder / "clean.onnx").read_bytes()
        assert attn_export("clean", "clean.onnx", "-o", "clean.onnx", *target).returncode == 0
        assert (folder / "clean.onnx").read_bytes() == before


@pytest.mark.parametrize("arguments", [["clean", "--json"], ["--json", "clean"]], ids=" ".join)
def test_json_is_the_result(attn_export: Command, raw: Path, arguments: list[str]) -> None:
    done = attn_export(*arguments, "raw.onnx", "-o", "clean.onnx", "--quiet", "--threads", "1")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert set(document) == {
        *("schema_version", "path", "nodes_before", "nodes_after", "steps", "applied", "skipped"),
        *("reverted", "attention", "source", "error"),
    }
    assert (document["schema_version"], document["path"], document["reverted"]) == (3, "clean.onnx", [])
    assert document["nodes_after"] == len(onnx.load("clean.onnx").graph.node) < document["nodes_before"]
    assert [set(block) for block in document["attention"]] == [BLOCK] * 3
    assert [tuple(block["nodes"]) for block in document["attention"]] == [b.nodes for b in inspect_file("clean.onnx")]
    assert all(set(firing) == {"rule", "place", "error"} and firing["error"] < 1e-5 for firing in document["applied"])
    assert all(set(miss) == {"rule", "place", "reason"} for miss in document["skipped"])
    assert all({"name", "nodes_before", "nodes_after"} <= set(step) for step in document["steps"])
    assert document["source"]["agrees"]
    assert document["source"]["comparisons"][-1]["tensor"] == onnx.load("clean.onnx").graph.output[0].name


def test_json_says_what_was_not_compared(attn_export: Command, folder: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "my.ops" : 1]>
        g (float[N, 4] x) => (float[N, 4] y) { z = my.ops.Magic(x)  y = Identity(z) }"""
    onnx.save(onnx.parser.parse_model(text), "raw.onnx")
    done = attn_export("clean", "raw.onnx", "-o", "clean.onnx", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["source"] is None
    assert "not compared with its parent" in done.stderr
    words = " ".join(attn_export("clean", "raw.onnx", "-o", "clean.onnx").stdout.split())
    assert "no attention blocks" in words
    assert "not compared with its source: ONNX Runtime doesn't take the file" in words


def test_quiet_leaves_the_result_only(attn_export: Command, raw: Path) -> None:
    done = attn_export("clean", "raw.onnx", "-o", "clean.onnx", "--quiet")
    assert done.stderr == ""
    assert "clean.onnx" in done.stdout


def test_an_older_result_is_replaced(attn_export: Command, raw: Path, folder: Path) -> None:
    (folder / "clean.onnx").write_bytes(b"older")
    assert attn_export("clean", "raw.onnx", "-o", "clean.onnx").returncode == 0
    assert onnx.load(folder / "clean.onnx").graph.node


@pytest.mark.parametrize("name", ["raw[best].onnx", "größe 1.onnx", "a [/] b.onnx"])
def test_a_name_with_brackets_is_printed_as_it_is(attn_export: Command, raw: Path, folder: Path, name: str) -> None:
    done = attn_export("clean", "raw.onnx", "-o", name)
    assert done.returncode == 0, done.stderr
    assert name in done.stdout
    assert attn_export("inspect", name).returncode == 0


# What clean refuses.


def test_an_unknown_target_is_refused(refused: Command, raw: Path) -> None:
    refused(2, "clean", "raw.onnx", "-o", "clean.onnx", "--for", "tensorflow", says=["tensorflow"], hint="tensorrt")


def test_the_common_form_needs_no_name(refused: Command, raw: Path) -> None:
    refused(2, "clean", "raw.onnx", "-o", "clean.onnx", "--for", "any", says=["any"], hint="onnxruntime")


def test_clean_without_a_place_for_the_result_is_refused(refused: Command, raw: Path) -> None:
    refused(2, "clean", "raw.onnx", says=["-o"], hint="--help")


@pytest.mark.parametrize("command", [["clean", "-o", "clean.onnx"], ["inspect"]], ids=["clean", "inspect"])
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nothing.onnx", "nothing.onnx"),
        ("empty.onnx", "empty.onnx is empty"),
        ("half.onnx", "half.onnx is not an ONNX file, or a damaged one"),
        ("model.pt", "model.pt is not an ONNX file"),
        ("run", "irectory"),
    ],
    ids=["missing", "empty", "truncated", "checkpoint", "folder"],
)
def test_both_commands_refuse_what_is_no_graph(
    refused: Command, raw: Path, folder: Path, command: list[str], source: str, words: str
) -> None:
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "half.onnx").write_bytes(raw.read_bytes()[:5000])
    (folder / "clean.onnx").write_bytes(b"an older result")
    (folder / "run").mkdir()
    first, *rest = command
    refused(3, first, source, *rest, says=[words])


def test_an_error_is_json_too(attn_export: Command, folder: Path) -> None:
    done = attn_export("clean", "nothing.onnx", "-o", "clean.onnx", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["exit_code"] == 3
    assert "nothing.onnx" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.parametrize("place", ["/proc/attn-export/clean.onnx", "taken/clean.onnx"])
def test_a_place_that_can_not_be_written_is_named(refused: Command, raw: Path, folder: Path, place: str) -> None:
    (folder / "taken").write_text("a file, where a folder should be")
    refused(6, "clean", "raw.onnx", "-o", place, says=[place.removesuffix("/clean.onnx"), "can't be written"])


def test_a_folder_in_the_place_of_the_result_is_named(refused: Command, raw: Path, folder: Path) -> None:
    (folder / "clean.onnx").mkdir()
    refused(6, "clean", "raw.onnx", "-o", "clean.onnx", says=["clean.onnx", "can't be written"])


def test_a_full_disk_leaves_the_older_result(
    refused: Command, raw: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(model: ir.Model, path: Path) -> None:
        path.write_bytes(b"half")
        raise OutputError(f"{path} can't be written: No space left on device", hint="Make room.")

    (folder / "clean.onnx").write_bytes(b"an older result")
    monkeypatch.setattr(onnx_file, "save", full)
    refused(6, "clean", "raw.onnx", "-o", "clean.onnx", says=["No space left"])


def test_an_interruption_leaves_the_older_result(
    attn_export: Command, raw: Path, folder: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    (folder / "clean.onnx").write_bytes(b"an older result")
    before = contents()
    monkeypatch.setattr(cleaning, "compare_with_source", interrupt)
    assert attn_export("clean", "raw.onnx", "-o", "clean.onnx").returncode == 130
    assert contents() == before


# A rule that is wrong.


def _forget(node: ir.Node, context: Context) -> MatchResult:
    """The Relu is left out: not the same, and the proof has to see it."""
    builder, old, source = Builder(), node.outputs[0], node.inputs[0]
    assert source is not None
    return builder.rewrite((source,), old, builder.add("Neg", source, shape=old.shape, like=old))


WRONG = Rule("forget an activation", frozenset({"Relu"}), _forget)


@pytest.fixture
def wrong_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """`clean` has the rules as a default, so they are changed where a graph is cleaned."""
    right = pipeline.clean
    monkeypatch.setattr(cleaning, "clean", lambda model, target=Target.ANY: right(model, target, (*RULES, WRONG)))


def test_a_wrong_rule_is_named_and_the_file_written_without_it(
    attn_export: Command, raw: Path, folder: Path, tmp_path: Path, wrong_rule: None
) -> None:
    done = attn_export("clean", "raw.onnx", "-o", "clean.onnx")
    assert done.returncode == 4
    assert "forget an activation" in done.stderr
    assert "would have changed the result" in done.stderr
    assert "rewrites were reverted" in done.stderr
    assert "The file was written without it" in done.stderr
    relus = sum(node.op_type == "Relu" for node in onnx.load(raw).graph.node)
    assert sum(node.op_type == "Relu" for node in onnx.load(folder / "clean.onnx").graph.node) == relus
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleaning, "clean", pipeline.clean)
        expected = clean_file(raw, tmp_path / "expected.onnx").path
    assert (folder / "clean.onnx").read_bytes() == expected.read_bytes()


def test_a_wrong_rule_is_explained(attn_export: Command, raw: Path, wrong_rule: None) -> None:
    done = attn_export("clean", "raw.onnx", "-o", "clean.onnx", "--explain")
    assert done.returncode == 4
    assert re.search(r"Reverted rewrites.*\n(.*\n)*.*forget an activation", done.stdout)


def test_a_wrong_rule_is_in_the_json(attn_export: Command, raw: Path, wrong_rule: None) -> None:
    """One document: the result with what was reverted in it."""
    done = attn_export("clean", "raw.onnx", "-o", "clean.onnx", "--json")
    assert done.returncode == 4
    document, _ = json.JSONDecoder().raw_decode(done.stdout)
    assert {entry["rule"] for entry in document["reverted"]} == {"forget an activation"}
    assert all(entry["error"] > entry["limit"] for entry in document["reverted"])


def test_json_is_one_document_whatever_happens(attn_export: Command, raw: Path, wrong_rule: None) -> None:
    json.loads(attn_export("clean", "raw.onnx", "-o", "clean.onnx", "--json").stdout)


# inspect


def test_inspect_lists_the_blocks_with_their_modules(attn_export: Command, raw: Path, contents: Contents) -> None:
    before = contents()
    done = attn_export("inspect", "raw.onnx")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if " CBAM " in line]
    assert [row[0] for row in rows] == [block.module_path for block in inspect_file(raw)]
    assert [row[2] for row in rows] == ["16", "32", "64"]
    assert contents() == before


@pytest.mark.parametrize("target", ["", "tensorrt", "onnxruntime"])
def test_inspect_knows_a_cleaned_file(attn_export: Command, raw: Path, target: str) -> None:
    first = json.loads(attn_export("inspect", "raw.onnx", "--json").stdout)["attention"]
    options = ["--for", target] if target else []
    cleaned = json.loads(attn_export("clean", "raw.onnx", "-o", "clean.onnx", "--json", *options).stdout)["attention"]
    after = json.loads(attn_export("inspect", "clean.onnx", "--json").stdout)["attention"]
    assert after == cleaned
    same = ("kind", "module_path", "channels", "reduction", "kernel", "nodes_before")
    assert [[block[key] for key in same] for block in after] == [[block[key] for key in same] for block in first]


@pytest.mark.parametrize("arguments", [["inspect", "--json"], ["--json", "inspect"]], ids=" ".join)
def test_inspect_as_json(attn_export: Command, raw: Path, arguments: list[str]) -> None:
    done = attn_export(*arguments, "raw.onnx")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert set(document) == {"schema_version", "path", "attention"}
    assert (document["schema_version"], document["path"]) == (3, "raw.onnx")
    assert [set(block) for block in document["attention"]] == [BLOCK] * 3


def test_inspect_of_a_plain_network(attn_export: Command, folder: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }"""
    onnx.save(onnx.parser.parse_model(text), "plain.onnx")
    done = attn_export("inspect", "plain.onnx")
    assert done.returncode == 0
    assert "no attention blocks" in done.stdout
    assert json.loads(attn_export("inspect", "plain.onnx", "--json").stdout)["attention"] == []


def test_a_module_path_with_brackets_is_printed_as_it_is(attn_export: Command, raw: Path) -> None:
    """Names come from the file; the table's markup is no affair of theirs."""
    attn_export("clean", "raw.onnx", "-o", "clean.onnx")
    model = onnx.load("clean.onnx")
    (entry,) = model.metadata_props
    entry.value = entry.value.replace('"layer1.0.attention"', '"[red]layer[/]1[/bold]"')
    onnx.save(model, "clean.onnx")
    done = attn_export("inspect", "clean.onnx")
    assert done.returncode == 0, done.stderr
    assert "[red]layer[/]1[/bold]" in done.stdout


@pytest.mark.parametrize("command", ["clean", "inspect"])
def test_each_command_has_help(capfd: pytest.CaptureFixture[str], command: str) -> None:
    assert run([command, "--help"]) == 0
    assert "opset 11" in capfd.readouterr().out
