"""Images from the user's own Python, as an object and by its name."""

from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attn_export.exporter.artifacts import Input, Normalization
from attn_export.exporter.errors import AttnExportError, InputError, UsageError
from attn_export.exporter.images.iterables import MOST
from attn_export.exporter.images.preprocessing import PictureOptions
from attn_export.exporter.images.read import read_images

INPUTS = [Input("input", (1, 3, 4, 4))]
IMAGES = np.random.default_rng(0).standard_normal((6, 3, 4, 4)).astype(np.float32)
LOADER = """
import numpy as np, torch
IMAGES = torch.arange(6 * 48).reshape(6, 3, 4, 4) / 100
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(IMAGES, torch.zeros(6)), batch_size=4)
number = 3
def endless():
    while True:
        yield np.zeros((512, 3, 4, 4), np.float32)
def broken():
    yield IMAGES
    raise RuntimeError("the disk is gone")
"""


@pytest.mark.parametrize(
    "given",
    [
        lambda: iter(IMAGES),
        lambda: list(IMAGES),
        lambda: (IMAGES[i : i + 4] for i in (0, 4)),
        lambda: ({"input": image} for image in IMAGES),
        lambda: ((torch.from_numpy(image).requires_grad_(), 1) for image in IMAGES),
    ],
    ids=["images", "list", "batches", "mappings", "labelled-tensors"],
)
def test_an_iterable_yields_images(given: Callable[[], Any]) -> None:
    assert np.array_equal(read_images(given(), INPUTS).all["input"], IMAGES)


def test_an_iterable_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_images.py").write_text(LOADER)
    found = read_images([Path("my_images:loader")], INPUTS, PictureOptions(Normalization((0.5,) * 3, (0.5,) * 3)))
    assert found.source.path == "my_images:loader"
    assert found.all["input"][5, 2, 3, 3] == np.float32(2.87)
    assert "were they normalized?" in found.source.notes[0]
    assert len(read_images("my_images:endless", INPUTS)) == MOST


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("my_images:nothing", UsageError, "no attribute 'nothing'"),
        ("no_such_module_here:loader", UsageError, "No module named"),
        ("my_images:number", UsageError, "my_images:number is a int"),
        ("my_images:broken", InputError, "the disk is gone"),
        (iter([]), InputError, "yields no images"),
        (iter(["a.jpg"]), InputError, "yields a str"),
        (repeat(np.zeros((1, 5, 5)), 2), InputError, "the network takes"),
    ],
)
def test_what_is_no_iterable_of_images_is_said(
    given: Any, error: type[AttnExportError], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "my_images", raising=False)
    (tmp_path / "my_images.py").write_text(LOADER)
    with pytest.raises(error, match=message):
        read_images(given, INPUTS)
