"""Which engines may be loaded: by their bytes, by their record, and by the machine they meet."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from attn_export.exporter.engine.backend import Backend
from attn_export.exporter.engine.settings import EngineSettings
from attn_export.exporter.engine.sidecar import (
    check_file,
    check_fits,
    read_sidecar,
    sidecar_path,
    this_platform,
)
from attn_export.exporter.errors import AttnExportError, UnreadableEngineError, UntrustedEngineError
from attn_export.exporter.records.document import SCHEMA_VERSION
from attn_export.exporter.records.document import plain as plain_values
from attn_export.exporter.records.engine import EngineRecord
from attn_export.exporter.system.gpus import Gpu
from tests.engine.building import build_file
from tests.engine.graphs import plain

CLASSIC = Backend("tensorrt", SimpleNamespace(__version__="10.3.0"))
AMPERE, ADA = Gpu("NVIDIA GeForce RTX 3080", "8.6"), Gpu("NVIDIA L4", "8.9")
TURING = Gpu("Tesla T4", "7.5")
Edit = Callable[..., int]


@pytest.fixture(scope="module")
def built(rtx: Backend, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, Any]]:
    """A real engine's bytes, and its record."""
    folder = tmp_path_factory.mktemp("built")
    made = build_file(plain(folder / "a.onnx"), folder / "a.engine", EngineSettings(gpus=("sm86",)))
    return made.path.read_bytes(), plain_values(made.record)


@pytest.fixture
def engine(built: tuple[bytes, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy of one's own."""
    path = tmp_path / "a.engine"
    path.write_bytes(built[0])
    sidecar_path(path).write_text(json.dumps(built[1]))
    return path


@pytest.fixture
def edited(engine: Path) -> Edit:
    """``edited(gpus=["sm89"])`` changes the record."""
    return lambda **changes: sidecar_path(engine).write_text(
        json.dumps({**json.loads(sidecar_path(engine).read_text()), **changes})
    )


# The file.


@pytest.mark.parametrize("trust", [False, True])
def test_an_engine_that_was_built_here_may_be_loaded(engine: Path, rtx: Backend, trust: bool) -> None:
    record = check_file(engine, trust=trust)
    assert record is not None
    check_fits(record, engine, rtx, (AMPERE,))


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("place", ["missing.engine", ".", "/", "missing/a.engine"])
def test_what_is_no_file_is_refused(tmp_path: Path, trust: bool, place: str) -> None:
    with pytest.raises(UnreadableEngineError, match="can't be read") as caught:
        check_file(tmp_path / place, trust=trust)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("trust", [False, True])
def test_an_empty_engine_is_refused(engine: Path, trust: bool) -> None:
    engine.write_bytes(b"")
    with pytest.raises(UnreadableEngineError, match="is empty"):
        check_file(engine, trust=trust)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_truncated_engine_is_refused(engine: Path, trust: bool, share: float) -> None:
    content = engine.read_bytes()
    engine.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UnreadableEngineError, match=f"truncated: .* of {len(content)} bytes"):
        check_file(engine, trust=trust)


@pytest.mark.parametrize("change", [lambda b: b"X" + b[1:], lambda b: b[:-1] + b"X", lambda b: b + b"X"])
def test_a_changed_engine_is_loaded_only_on_trust(engine: Path, change: Callable[[bytes], bytes]) -> None:
    engine.write_bytes(change(engine.read_bytes()))
    with pytest.raises(UntrustedEngineError, match="changed after its build") as caught:
        check_file(engine, trust=False)
    assert "--trust" in caught.value.hint
    assert check_file(engine, trust=True) is not None


def test_a_changed_hash_is_noticed(engine: Path, edited: Edit) -> None:
    edited(sha256="0" * 64)
    with pytest.raises(UntrustedEngineError):
        check_file(engine, trust=False)


def test_an_engine_without_a_record_is_loaded_only_on_trust(engine: Path) -> None:
    sidecar_path(engine).unlink()
    assert read_sidecar(engine) is None
    with pytest.raises(UntrustedEngineError, match=r"no record of its origin \(a\.engine\.json\)") as caught:
        check_file(engine, trust=False)
    assert "--trust" in caught.value.hint
    assert caught.value.exit_code == 3
    assert check_file(engine, trust=True) is None


def test_the_record_of_another_engine_is_none_of_this_one(engine: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.engine"
    other.write_bytes(b"another engine" * 10**6)
    sidecar_path(other).write_bytes(sidecar_path(engine).read_bytes())
    with pytest.raises(UntrustedEngineError):
        check_file(other, trust=False)


# The record.


REQUIRED = ("schema_version", "sha256", "bytes", "backend", "gpus", "platform", "profile", "io", "precision")


@pytest.mark.parametrize("key", REQUIRED)
def test_what_a_record_lacks_is_named(engine: Path, edited: Edit, key: str) -> None:
    edited(**{key: None})
    with pytest.raises(UnreadableEngineError, match=rf"not the record of an engine: .*\$\.{key}") as caught:
        check_file(engine, trust=True)
    assert "Build the engine again" in caught.value.hint


@pytest.mark.parametrize("version", [1, SCHEMA_VERSION + 1])
def test_a_record_of_another_version_is_refused(engine: Path, edited: Edit, version: int) -> None:
    edited(schema_version=version)
    with pytest.raises(UnreadableEngineError, match=f"schema version {version}, .* reads version {SCHEMA_VERSION}"):
        check_file(engine, trust=False)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"3", b'"text"', b"{}", b"\xff\xfe", b"[" * 200_000, b"NaN", b"1" * 5000, b"\0" * 100],
    ids=lambda content: repr(content[:10]),
)
@pytest.mark.parametrize("trust", [False, True])
def test_a_damaged_record_is_refused(engine: Path, content: bytes, trust: bool) -> None:
    sidecar_path(engine).write_bytes(content)
    with pytest.raises(UnreadableEngineError, match=r"a\.engine\.json"):
        check_file(engine, trust=trust)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
@pytest.mark.parametrize("which", ["engine", "record"])
def test_a_pipe_is_not_waited_for(engine: Path, which: str) -> None:
    path = engine if which == "engine" else sidecar_path(engine)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnreadableEngineError, match="it is no file"):
        check_file(engine, trust=False)


def test_a_record_of_gigabytes_is_not_read(engine: Path) -> None:
    os.truncate(sidecar_path(engine), 2**32)
    with pytest.raises(UnreadableEngineError, match="larger than 64 MiB"):
        read_sidecar(engine)


@pytest.mark.parametrize("digits", [20, 400, 4_000])
def test_numbers_of_more_than_64_bits_are_refused(engine: Path, edited: Edit, digits: int) -> None:
    edited(bytes=10**digits)
    with pytest.raises(UnreadableEngineError, match=r"64 bits|out of range|Expected"):
        read_sidecar(engine)


def test_a_folder_in_place_of_the_record_is_refused(engine: Path) -> None:
    sidecar_path(engine).unlink()
    sidecar_path(engine).mkdir()
    with pytest.raises(UnreadableEngineError, match=r"a\.engine\.json can't be read"):
        check_file(engine, trust=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


@FUZZ
@given(changes=st.dictionaries(st.sampled_from([*REQUIRED, "options", "validation"]), JSON, max_size=4))
@example({"gpus": [1, None]})
@example({"gpus": []})
@example({"options": None, "backend": {}})
@example({"options": [], "gpus": ["sm75"]})
def test_any_record_is_taken_or_refused_in_words_of_ours(engine: Path, rtx: Backend, changes: dict[str, Any]) -> None:
    before = sidecar_path(engine).read_bytes()
    try:
        sidecar_path(engine).write_text(json.dumps({**json.loads(before), **changes}))
        for backend in (rtx, CLASSIC):
            record = check_file(engine, trust=True)
            assert record is not None
            for here in ((), (AMPERE,), (TURING,)):
                check_fits(record, engine, backend, here)
    except AttnExportError:
        pass
    finally:
        sidecar_path(engine).write_bytes(before)


@FUZZ
@given(content=st.binary(max_size=60))
def test_any_bytes_of_a_record_are_refused_in_words_of_ours(engine: Path, content: bytes) -> None:
    before = sidecar_path(engine).read_bytes()
    sidecar_path(engine).write_bytes(content)
    try:
        with pytest.raises(UnreadableEngineError):
            check_file(engine, trust=True)
    finally:
        sidecar_path(engine).write_bytes(before)


# The machine.


def fits(built: tuple[bytes, dict[str, Any]], loader: Backend, *here: Gpu, **changes: Any) -> None:
    record = msgspec.convert({**built[1], **changes}, EngineRecord)
    check_fits(record, Path("a.engine"), loader, here)


def made_by(name: str, version: str) -> dict[str, Any]:
    return {"backend": {"name": name, "version": version, "why": ""}}


def test_another_version_is_refused(built: tuple[bytes, dict[str, Any]], rtx: Backend) -> None:
    with pytest.raises(
        UnreadableEngineError, match=rf"built by tensorrt-rtx 1\.6\.0, but {rtx} is installed"
    ) as caught:
        fits(built, rtx, AMPERE, **made_by("tensorrt-rtx", "1.6.0"))
    assert "build it again" in caught.value.hint


@pytest.mark.parametrize("options", [{}, {"version_compatible": True}])
def test_another_tensorrt_is_refused(built: tuple[bytes, dict[str, Any]], rtx: Backend, options: Any) -> None:
    with pytest.raises(UnreadableEngineError, match=r"built by tensorrt 10\.3\.0"):
        fits(built, rtx, AMPERE, **made_by("tensorrt", "10.3.0"), options=options)
    with pytest.raises(UnreadableEngineError, match="built by tensorrt-rtx"):
        fits(built, CLASSIC, AMPERE, options=options)


def test_only_the_classic_one_has_engines_for_later_versions(built: tuple[bytes, dict[str, Any]], rtx: Backend) -> None:
    compatible = {"options": {"version_compatible": True}}
    later = Backend("tensorrt", SimpleNamespace(__version__="10.9.0"))
    fits(built, later, AMPERE, **made_by("tensorrt", "10.3.0"), **compatible)
    with pytest.raises(UnreadableEngineError):
        fits(built, later, AMPERE, **made_by("tensorrt", "10.3.0"))
    with pytest.raises(UnreadableEngineError):
        fits(built, rtx, AMPERE, **made_by("tensorrt-rtx", "1.0"), **compatible)


def test_another_system_is_refused(built: tuple[bytes, dict[str, Any]], rtx: Backend) -> None:
    with pytest.raises(UnreadableEngineError, match=f"built for windows-amd64, but this machine is {this_platform()}"):
        fits(built, rtx, AMPERE, platform="windows-amd64")


def test_another_gpu_is_refused(built: tuple[bytes, dict[str, Any]], rtx: Backend) -> None:
    with pytest.raises(UnreadableEngineError, match="built for sm86, but this machine's NVIDIA L4 is sm89") as caught:
        fits(built, rtx, ADA)
    assert "--gpu sm89" in caught.value.hint
    fits(built, rtx, ADA, gpus=["sm86", "sm89"])


def test_without_a_gpu_nothing_is_known_of_it(built: tuple[bytes, dict[str, Any]], rtx: Backend) -> None:
    fits(built, rtx)


@pytest.mark.parametrize("changes", [{"gpus": ["portable"]}, {"options": {"hardware_compatible": True}}])
def test_an_engine_for_every_gpu_is_for_ampere_and_later(
    built: tuple[bytes, dict[str, Any]], rtx: Backend, changes: dict[str, Any]
) -> None:
    for gpu in (AMPERE, ADA, Gpu("NVIDIA GeForce RTX 5090", "12.0")):
        fits(built, rtx, gpu, **changes)
    with pytest.raises(UnreadableEngineError, match="Tesla T4 is sm75"):
        fits(built, rtx, TURING, **changes)


def test_the_record_of_a_build_names_this_system(built: tuple[bytes, dict[str, Any]]) -> None:
    assert built[1]["platform"] == this_platform()
    system, _, processor = this_platform().partition("-")
    assert system
    assert processor
