"""A reference that was computed before is found again only if nothing that it depends on has changed."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from attn_export.exporter.artifacts import LoadedModel
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import Batch, batches
from attn_export.exporter.validation.baseline import TYPES
from attn_export.exporter.validation.cache import SUFFIX, Cache, cached_reference
from attn_export.exporter.validation.fingerprint import NotRepeatable, fingerprint, tape
from attn_export.exporter.validation.reference import Reference

Fresh = Callable[[str], LoadedModel]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def made_for(model: LoadedModel) -> list[Batch]:
    return batches(opened(model.inputs))


def get(model: LoadedModel, cache: Cache | None, made: list[Batch] | None = None) -> tuple[Reference, bool]:
    return cached_reference(model, made or made_for(model), cache=cache, precisions=tuple(TYPES))


def same(first: Reference, second: Reference) -> bool:
    sides = [
        (first.exact, second.exact),
        *((first.baselines[p], second.baselines[p]) for p in first.baselines),
    ]
    return all(
        a.gate_paths == b.gate_paths
        and all(
            np.array_equal(x, y) and x.dtype == y.dtype
            for x, y in zip((*a.outputs, *a.gates), (*b.outputs, *b.gates), strict=True)
        )
        for left, right in sides
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("name", ["toy", "resnet8", "cbam_resnet8"])
def test_what_is_found_again_is_what_was_computed_to_the_last_bit(name: str, fresh: Fresh, cache: Cache) -> None:
    first, was_there = get(fresh(name), cache)
    assert not was_there
    second, was_there = get(fresh(name), cache)
    assert was_there
    assert same(first, second)
    assert set(second.baselines) == set(TYPES)


def one_weight(model: LoadedModel) -> None:
    next(model.module.parameters()).data.view(-1)[0] += 1e-6


def one_statistic(model: LoadedModel) -> None:
    model.module.get_buffer("1.running_mean")[0] += 1e-6


def an_epsilon(model: LoadedModel) -> None:
    norm = model.module.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.eps = 2e-5


def another_activation(model: LoadedModel) -> None:
    assert isinstance(model.module, nn.Sequential)
    model.module[2] = nn.ReLU6()


def another_order(model: LoadedModel) -> None:
    """The same layers with the same weights under the same names, called in another order."""
    assert isinstance(model.module, nn.Sequential)
    first, second = model.module[1], model.module[2]
    forward_1, forward_2 = first.forward, second.forward
    first.forward, second.forward = forward_2, forward_1


@pytest.mark.parametrize("change", [one_weight, one_statistic, an_epsilon, another_activation, another_order])
def test_another_network_is_not_found(change: Callable[[LoadedModel], None], fresh: Fresh, cache: Cache) -> None:
    get(fresh("toy"), cache)
    other = fresh("toy")
    change(other)
    assert not get(other, cache)[1]


def test_other_images_precisions_and_versions_are_not_found(
    fresh: Fresh, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fresh("toy")
    made = made_for(model)
    assert not get(model, cache, made)[1]
    changed = [Batch({"input": made[0].arrays["input"] + np.float32(1e-6)}, made[0].kinds, made[0].names), *made[1:]]
    assert not get(model, cache, changed)[1]
    assert not get(model, cache, made[:-1])[1]
    assert not cached_reference(model, made, cache=cache)[1]
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert not get(model, cache, made)[1]
    monkeypatch.undo()
    assert get(model, cache, made)[1]


def entry(cache: Cache) -> Path:
    (path,) = cache.folder.iterdir()
    return path


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b"PK" + path.read_bytes()[2:1000]),
        lambda path: path.write_text("no archive"),
        lambda path: np.savez(path.open("wb"), about=np.array([{}], dtype=object)),
        lambda path: np.savez(path.open("wb"), about=np.frombuffer(b'{"key": "other"}', np.uint8)),
        lambda path: np.savez(path.open("wb"), about=np.frombuffer(b"[]", np.uint8)),
        as_pipe,
    ],
    ids=["empty", "truncated", "cut", "text", "objects", "another's", "no record", "pipe"],
)
def test_a_damaged_entry_is_computed_anew_and_replaced(
    damage: Callable[[Path], Any], fresh: Fresh, cache: Cache
) -> None:
    first, _ = get(fresh("toy"), cache)
    damage(entry(cache))
    second, was_there = get(fresh("toy"), cache)
    assert not was_there
    assert same(first, second)
    assert get(fresh("toy"), cache)[1]


def test_one_flipped_byte_is_seen(fresh: Fresh, cache: Cache) -> None:
    reference, _ = get(fresh("toy"), cache)
    data = bytearray(entry(cache).read_bytes())
    data[data.index(reference.exact[0].outputs[0].tobytes())] ^= 1
    entry(cache).write_bytes(data)
    assert not get(fresh("toy"), cache)[1]


def test_a_pickle_in_an_entry_is_not_run(fresh: Fresh, cache: Cache, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "run",))

    get(fresh("toy"), cache)
    with entry(cache).open("wb") as stream:
        np.savez(stream, allow_pickle=True, about=np.array([Hostile()], dtype=object))
    assert not get(fresh("toy"), cache)[1]
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_kept_is_computed(fresh: Fresh, cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not get(fresh("toy"), Cache(tmp_path / "file" / "below"))[1]
    small = Cache(cache.folder, max_bytes_of_one=100)
    assert not get(fresh("toy"), small)[1]
    assert not get(fresh("toy"), small)[1]
    assert not cache.folder.exists() or not list(cache.folder.iterdir())
    assert not get(fresh("toy"), None)[1]


def test_the_oldest_go_first(fresh: Fresh, cache: Cache) -> None:
    size = 0
    for number in range(3):
        model = fresh("toy")
        next(model.module.parameters()).data.mul_(1 + number)
        get(model, cache)
        if not size:
            size = entry(cache).stat().st_size
            os.utime(entry(cache), (1, 1))
    tight = Cache(cache.folder, max_bytes=int(2.5 * size))
    model = fresh("toy")
    next(model.module.parameters()).data.mul_(9)
    get(model, tight)
    assert len(list(cache.folder.iterdir())) == 2
    assert not get(fresh("toy"), cache)[1], "the oldest is gone"


def test_several_at_once_do_not_disturb_each_other(fresh: Fresh, cache: Cache) -> None:
    reference, _ = get(fresh("toy"), None)
    key = fingerprint(fresh("toy").module, reference.batches, tuple(TYPES))
    seen: list[Reference | None] = []

    def both() -> None:
        for _ in range(10):
            cache.store(key, reference)
            seen.append(cache.load(key, reference.batches))

    threads = [threading.Thread(target=both) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 40
    assert all(found is not None and same(found, reference) for found in seen)
    assert [path.name.endswith(SUFFIX) for path in cache.folder.iterdir()] == [True]


def test_the_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATTN_EXPORT_CACHE", str(tmp_path / "named"))
    assert Cache().folder == tmp_path / "named"
    monkeypatch.delenv("ATTN_EXPORT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("sys.platform", "linux")
    assert Cache().folder == tmp_path / "xdg" / "attn-export"


def test_without_a_home_nothing_is_kept(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    """A uid that the system doesn't know, as in a container."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("ATTN_EXPORT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    nowhere = Cache()
    assert [get(fresh("toy"), nowhere)[1] for _ in range(2)] == [False, False]


# What identifies a network.


class Function(nn.Module):
    """Whatever a test wants."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


IMAGE = {"input": np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)}


def test_the_tape_is_the_same_every_time(fresh: Fresh) -> None:
    first, second = (
        tape(fresh("cbam_resnet8").module, {"input": np.zeros((1, 3, 32, 32), np.float32)}) for _ in range(2)
    )
    assert first == second
    assert len(first) > 50


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: x - 2 * x.relu(), lambda x: 2 * x.relu() - x),
        (lambda x: x.mean((2, 3)), lambda x: x.mean((1, 3))),
        (lambda x: x * torch.tensor(2.0), lambda x: x * torch.tensor(3.0)),
        (lambda x: x.clamp(0, 6), lambda x: x.clamp(0, 5)),
        (lambda x: torch.cat([x, x.relu()]), lambda x: torch.cat([x.relu(), x])),
    ],
    ids=["order", "axes", "constant", "limits", "parts"],
)
def test_another_computation_has_another_tape(
    one: Callable[[torch.Tensor], torch.Tensor], other: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    assert tape(Function(one), IMAGE) != tape(Function(other), IMAGE)


def decided(x: torch.Tensor) -> torch.Tensor:
    return x.relu() if x.max() > -1e9 else x


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: nn.functional.dropout(x, 0.5, training=True), "random"),
        (lambda x: x + torch.randn_like(x), "random"),
        (decided, "a value decides"),
        (lambda x: torch.from_numpy(np.sort(x.numpy(), axis=-1)) * 1, "outside of PyTorch"),
    ],
    ids=["dropout", "noise", "branch", "numpy"],
)
def test_what_depends_on_more_is_not_kept(
    function: Callable[[torch.Tensor], torch.Tensor], why: str, cache: Cache
) -> None:
    model = from_module(Function(function), (3, 8, 8))
    with pytest.raises(NotRepeatable, match=why):
        tape(model.module, IMAGE)


def test_a_network_that_decides_by_values_is_computed_every_time(cache: Cache) -> None:
    model = from_module(Function(decided), (3, 8, 8))
    assert [get(model, cache)[1] for _ in range(2)] == [False, False]
    assert not cache.folder.exists()


def test_what_a_killed_run_left_behind_is_cleared(tmp_path: Path, reference: Callable[[str], Reference]) -> None:
    left = tmp_path / ".attn-export-left"
    left.mkdir()
    for name in ("lock", f"half{SUFFIX}"):
        (left / name).write_bytes(b"half")
    Cache(tmp_path).store("key", reference("toy"))
    assert [path.name for path in tmp_path.iterdir()] == [f"key{SUFFIX}"]
