"""The cost of attention in a terminal."""

from io import StringIO
from typing import Any

from rich.console import Console

from attn_export.exporter.records.attention import AttentionCost, TimedBlock
from attn_export.exporter.report.terminal import MOST_EXPENSIVE, attention_parts, drawn


def block(index: int, kind: str = "SE", path: str = "", macs: int | None = 1000) -> TimedBlock:
    total = None if macs is None else macs * index
    return TimedBlock(path or f"layer{index}.attention", kind, 64 * index, total, 0.1 * index, 0.01 * index, 7)


def cost(*blocks: TimedBlock, **changes: Any) -> AttentionCost:
    known: dict[str, Any] = {
        "with_ms": 10.9,
        "without_ms": 10.0,
        "ratio": 1.09,
        "ratio_interval": (1.07, 1.11),
        "verdict": "slower",
        "macs": 1_500_000,
        "attention_macs": 6000,
        "profiled_ms": 10.0,
        "attention_ms": 0.6,
    }
    return AttentionCost("model.onnx", "onnxruntime", 1, blocks=blocks, **known | changes)


def printed(found: AttentionCost) -> str:
    console = Console(file=StringIO(), width=200)
    for part in drawn(attention_parts(found)):
        console.print(part)
    return console.file.getvalue().replace("\N{NO-BREAK SPACE}", " ")  # type: ignore[attr-defined]


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_each_kind_has_a_row() -> None:
    text = printed(cost(block(1), block(2, "CBAM"), block(3)))
    assert ["SE", "2", "0.3", "%", "4.0", "%", "0.400", "14"] in rows(text)
    assert ["CBAM", "1", "0.1", "%", "2.0", "%", "0.200", "7"] in rows(text)


def test_the_most_expensive_blocks_come_first_and_no_more_than_a_few() -> None:
    text = printed(cost(*(block(i) for i in range(1, 9))))
    lines = text[text.index("Most expensive") :].splitlines()[2:]
    listed = [line.split()[0] for line in lines if line.strip()]
    assert listed == [f"layer{i}.attention" for i in (8, 7, 6, 5, 4)]
    assert len(listed) == MOST_EXPENSIVE


def test_a_single_block_is_not_listed_again() -> None:
    assert "Most expensive" not in printed(cost(block(1)))


def test_missing_parts_are_explained() -> None:
    text = printed(AttentionCost("model.onnx", "onnxruntime", 1, missed="out of order"))
    assert text.strip() == "model.onnx in onnxruntime, batch 1: not measured. Out of order."
    nothing = {"without_ms": None, "ratio": None, "ratio_interval": None, "verdict": None}
    alone = printed(cost(block(1), **nothing, missed="there is no such network"))
    assert "10.9 ms with attention" in alone
    assert "without" not in alone
    uncounted = printed(cost(block(1, macs=None), block(2, macs=None), macs=None, attention_macs=None))
    assert "MACs" not in uncounted


def test_names_of_blocks_are_no_markup() -> None:
    assert "[bold]x" in printed(cost(block(1, path="[bold]x"), block(2)))
