"""What sweeps do on a Ray cluster, as far as it can be seen without Ray; tests/sweep/test_ray.py has one."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attn_export.exporter.errors import RuntimeUnavailableError, UsageError
from attn_export.exporter.records.sweep import Figures
from attn_export.exporter.sweep import ray_task
from attn_export.exporter.sweep.inputs import packed
from attn_export.exporter.sweep.job import Inputs, Job
from attn_export.exporter.sweep.ray_backend import connected, targets_of
from attn_export.exporter.sweep.ray_task import Shipped, compute, digest, fetched
from attn_export.exporter.system.packages import installed
from tests.sweep import light


class ObjectStore:
    """Ray's, for one node."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, reference: Any) -> bytes:
        self.asked.append(reference)
        return str(reference).encode()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATTN_EXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sweep"


def shipped(content: str, name: str = "my model.onnx") -> Shipped:
    return Shipped(name, digest(content.encode()), content)


def test_a_file_is_fetched_once_for_each_node_and_again_if_it_was_changed(cache: Path) -> None:
    file, store = shipped("content"), ObjectStore()
    path = fetched(file, store)
    assert path.is_relative_to(cache)
    assert path.read_bytes() == b"content"
    assert fetched(file, store) == path
    assert len(store.asked) == 1
    path.write_bytes(b"changed")
    assert fetched(file, store).read_bytes() == b"content"


def test_a_file_of_the_same_name_and_other_content_is_another(cache: Path) -> None:
    store = ObjectStore()
    assert fetched(shipped("one"), store) != fetched(shipped("two"), store)


@pytest.mark.parametrize("role", ["code", "calibration"])
def test_a_folder_travels_with_what_counts_in_it(role: str, cache: Path, tmp_path: Path) -> None:
    for name in ("nets/se.py", "photos/a.png", "weights.bin", ".hidden.py"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text("print()")
    content = packed(role, tmp_path / "source")
    file = Shipped("source.zip", digest(content), content, folder=True)
    seen: list[str] = []

    def run(job: Job, inputs: Inputs, folder: Path) -> Figures:
        (root,) = inputs[role]
        seen.extend(path.relative_to(root).as_posix() for path in root.rglob("*.*"))
        return Figures()

    job = next(iter(light.grid(tmp_path, light.plan(tmp_path, a="a")).jobs.values()))
    outcome, _ = compute(job, {role: (file,)}, run, "a node", installed("attn-export"), lambda reference: reference)
    assert outcome.error is None
    assert seen == ["nets/se.py" if role == "code" else "photos/a.png"]


def test_what_was_used_longest_ago_makes_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_task, "MAX_BYTES", 10)
    old, new = fetched(shipped("123456"), ObjectStore()), fetched(shipped("abcdef"), ObjectStore())
    assert new.exists()
    assert not old.exists()


def test_a_job_comes_back_with_its_files(cache: Path, tmp_path: Path) -> None:
    job = next(iter(light.grid(tmp_path, light.plan(tmp_path, a="a")).jobs.values()))
    shipment = {"model": (shipped("a", "a.onnx"),)}
    outcome, files = compute(job, shipment, light.run, "node", installed("attn-export"), ObjectStore())
    assert outcome.error is None
    assert (outcome.key, outcome.node, outcome.files) == (job.key, "node", ("model.onnx",))
    assert files == [("model.onnx", b"a")]


def test_a_node_with_another_attn_export_is_refused(cache: Path, tmp_path: Path) -> None:
    job = next(iter(light.grid(tmp_path, light.plan(tmp_path, a="a")).jobs.values()))
    outcome, files = compute(job, {}, light.run, "node", "9.9", ObjectStore())
    assert not files
    assert outcome.error is not None
    assert outcome.error.exit_code == 5
    assert "the sweep is of 9.9" in outcome.error.message


@pytest.mark.parametrize(
    ("resources", "targets"),
    [
        ({"CPU": 8.0, "memory": 1e9, "node:127.0.0.1": 1.0, "object_store_memory": 1e9}, {"cpu"}),
        ({"CPU": 8.0, "jetson_orin": 1.0}, {"sm87"}),
        ({"CPU": 8.0, "sm86": 1.0, "cpu": 1.0, "GPU": 1.0}, {"cpu", "sm86"}),
    ],
)
def test_a_node_offers_what_its_resources_name(resources: dict[str, float], targets: set[str]) -> None:
    assert targets_of(resources) == targets


@given(st.sampled_from(["", "auto", "server", "server:", ":6379", "server:port", "ray://server"]))
def test_an_address_has_a_host_and_a_port(address: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        connected(address)


def test_where_ray_is_not_installed_the_hint_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeUnavailableError) as caught:
        connected("127.0.0.1:6379")
    assert caught.value.hint == "pip install 'attn-export[ray]'"
