"""Headers of safetensors files that lie."""

import json
import struct

import pytest

from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import UnreadableCheckpointError


def header_of(length: int, header: dict[str, object], data: bytes = b"") -> bytes:
    return struct.pack("<Q", length) + json.dumps(header).encode() + data


def entry(shape: list[int], first: int, last: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [first, last]}


def of(header: dict[str, object], data: bytes) -> bytes:
    return header_of(len(json.dumps(header)), header, data)


@pytest.mark.parametrize(
    "content",
    [
        header_of(2**63, {"a": entry([1], 0, 4)}, bytes(4)),
        header_of(2**40, {"a": entry([1], 0, 4)}, bytes(4)),
        of({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)),
        of({"a": entry([2**40], 0, 8)}, bytes(8)),
        of({"a": entry([2**33, 2**33], 0, 8)}, bytes(8)),
        of({"a": entry([2], 0, 8)}, bytes(4)),
        of({"a": entry([2], 0, 8)}, bytes(64)),
        of({"a": entry([2], 8, 0)}, bytes(8)),
        of({"a": entry([-2], 0, 8)}, bytes(8)),
        of({"a": entry([2], 0, 8)}, bytes(8))[:40],
        header_of(6, {}) + b"[1, 2]",
        b"\x00",
        of({"a": {"dtype": "F77", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
    ],
    ids=[
        "2^63",
        "2^40",
        "overlap",
        "shape",
        "overflow",
        "truncated",
        "too long",
        "backwards",
        "negative",
        "cut",
        "a list",
        "a byte",
        "dtype",
    ],
)
def test_a_header_that_lies_is_refused_in_words(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UnreadableCheckpointError, match="safetensors") as caught:
        load(tmp_path / "model.safetensors")
    assert caught.value.exit_code == 3


def test_a_list_of_more_tensors_than_any_network_has_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", 2**24 + 1) + b"{}".ljust(2**24 + 2))
    with pytest.raises(UnreadableCheckpointError, match="16,777,216 are the limit"):
        load(path)
