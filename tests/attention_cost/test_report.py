"""The tables of what attention costs, as a terminal shows them."""

from io import StringIO
from typing import Any

from rich.console import Console

from attn_export.exporter.report.attention_cost import MOST_EXPENSIVE, attention_cost_tables


def block(index: int, kind: str = "SE", **changes: Any) -> dict[str, Any]:
    made = {"module_path": f"layer{index}.attention", "kind": kind, "channels": 64 * index, "macs": 1000 * index}
    return {**made, "ms": 0.1 * index, "share": 0.01 * index, "kernels": 7, **changes}


def cost(**changes: Any) -> dict[str, Any]:
    made = {
        "artifact": "model.onnx",
        "runtime": "onnxruntime",
        "batch": 1,
        "with_ms": 10.9,
        "without_ms": 10.0,
        "ratio": 1.09,
        "ratio_interval": [1.07, 1.11],
        "verdict": "slower",
        "macs": 1_500_000,
        "attention_macs": 6000,
        "profiled_ms": 10.0,
        "attention_ms": 0.6,
        "unattributed_ms": 0.0,
        "blocks": [block(1), block(2), block(3)],
        "missed": "",
    }
    return {**made, **changes}


def shown(*costs: dict[str, Any], width: int = 120, named: bool = False) -> str:
    stream = StringIO()
    console = Console(file=stream, width=width)
    for part in attention_cost_tables(costs, named=named):
        console.print(part)
    return stream.getvalue().replace("\N{NO-BREAK SPACE}", " ")


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_sentence_says_what_attention_is_of_macs_and_of_time() -> None:
    assert (
        "SE: 0.4 % of the MACs, 6.0 % of the kernels' time. "
        "With attention 10.9 ms, without 10.0: 1.090 (1.070–1.110), slower"
    ) in shown(cost(), width=200)


def test_each_kind_has_a_row() -> None:
    text = shown(cost(blocks=[block(1), block(2, "CBAM"), block(3)]))
    assert ["SE", "2", "0.3", "%", "4.0", "%", "0.400", "14"] in rows(text)
    assert ["CBAM", "1", "0.1", "%", "2.0", "%", "0.200", "7"] in rows(text)
    assert "SE and CBAM: 0.4 % of the MACs, 6.0 % of the kernels' time." in text


def test_the_most_expensive_blocks_come_first_and_no_more_than_a_few() -> None:
    text = shown(cost(blocks=[block(i) for i in range(1, 9)]))
    table = text[text.index("Most expensive") :]
    listed = [line.split()[0] for line in table.splitlines()[2:] if line.strip()]
    assert listed == [f"layer{i}.attention" for i in (8, 7, 6, 5, 4)]
    assert len(listed) == MOST_EXPENSIVE


def test_a_single_block_is_not_listed_again() -> None:
    assert "Most expensive" not in shown(cost(blocks=[block(1)]))


def test_several_files_are_named() -> None:
    text = shown(cost(), cost(artifact="model.fp16.onnx", verdict="can't tell"), named=True)
    assert ["model.onnx", "SE", "3", "0.4", "%", "6.0", "%", "0.600", "21"] in rows(text)
    assert "model.fp16.onnx: SE: 0.4 % of the MACs" in text
    assert "Most expensive in model.fp16.onnx" in text
    assert "model.onnx" not in shown(cost()), "one file needs no name"


def test_what_is_missing_is_said() -> None:
    nothing = {"with_ms": None, "without_ms": None, "ratio": None, "ratio_interval": None, "verdict": None}
    text = shown(cost(**nothing, macs=None, attention_macs=None, profiled_ms=None, blocks=[], missed="out of order"))
    assert text.split() == ["out", "of", "order"]
    alone = shown(cost(**{**nothing, "with_ms": 10.9}, missed="there is no such network"))
    assert "SE: 0.4 % of the MACs, 6.0 % of the kernels' time. 10.9 ms\nthere is no such network" in alone
    assert "without" not in alone
    uncounted = shown(
        cost(macs=None, attention_macs=None, blocks=[block(1, macs=None, channels=None), block(2, macs=None)])
    )
    assert "SE: 3.0 % of the kernels' time." in uncounted
    assert "of the MACs," not in uncounted


def test_without_attention_there_is_nothing_to_show() -> None:
    assert attention_cost_tables([], named=True) == []


def test_names_of_blocks_are_no_markup() -> None:
    assert "[bold]x" in shown(cost(blocks=[block(1, module_path="[bold]x"), block(2)]))
