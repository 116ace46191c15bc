"""Images from folders, files and arrays: their order, what is left out, and what is refused."""

import contextlib
import os
import random
import re
import struct
import zipfile
import zlib
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from PIL import Image

from attn_export.exporter.artifacts import Input, Normalization
from attn_export.exporter.errors import InputError
from attn_export.exporter.images.preprocessing import PictureOptions
from attn_export.exporter.images.read import ImageSet, read_images
from attn_export.exporter.system.machine import Memory

INPUTS = [Input("input", (1, 3, 16, 16))]
NORMALIZATION = Normalization((0.4, 0.5, 0.6), (0.2, 0.3, 0.1))


def save(path: Path, colour: int, size: tuple[int, int] = (20, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, colour, colour)).save(path)
    return path


def read(*paths: Path, normalization: Normalization | None = NORMALIZATION) -> ImageSet:
    return read_images(list(paths), INPUTS, PictureOptions(normalization))


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    names = ["b/2.png", "a/1.jpg", "a/10.webp", "c.bmp"]
    for colour, name in enumerate(random.Random(0).sample(names, len(names))):
        save(tmp_path / name, colour)
    images = read(tmp_path)
    assert list(images.names) == sorted(str(tmp_path / name) for name in names)
    assert images.all["input"].shape == (4, 3, 16, 16)
    assert images.source.images == 4
    given = [tmp_path / name for name in names]
    assert list(read(*given).names) == list(map(str, given))


def test_other_files_are_left_out_and_named_and_hidden_ones_are_not(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 0)
    for name in ("labels.csv", ".DS_Store", "._a.jpg"):
        (tmp_path / name).write_text("no picture")
    save(tmp_path / ".cache" / "b.png", 0)
    images = read(tmp_path)
    assert len(images) == 1
    assert images.source.left_out == ("labels.csv",)
    assert f"{tmp_path}: left out, because it is no picture: labels.csv" in images.source.sentences


def test_folders_that_link_to_themselves_end(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", 0)
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert len(read(tmp_path)) == 1


def test_pictures_of_many_sizes_and_modes_are_one_batch(tmp_path: Path) -> None:
    for i, (mode, size) in enumerate([("RGB", (16, 16)), ("L", (90, 40)), ("RGBA", (40, 90)), ("P", (17, 300))]):
        Image.new(mode, size, 0).save(tmp_path / f"{i}.png")
    made = read(tmp_path).all["input"]
    black = (0 - np.array(NORMALIZATION.mean)) / np.array(NORMALIZATION.std)
    assert np.allclose(made, np.broadcast_to(black[:, None, None], made.shape), atol=1e-5)


def test_evenly_spaced_images_are_the_first_the_last_and_some_between(tmp_path: Path) -> None:
    for i in range(10):
        save(tmp_path / f"{i}.png", 10 * i)
    few = read(tmp_path).spread(4)
    assert [Path(name).stem for name in few.names] == ["0", "3", "6", "9"]
    assert np.array_equal(few.all["input"], read(tmp_path).load([0, 3, 6, 9])["input"])
    assert any("4 of its 10 images" in note for note in few.source.notes)
    assert read(tmp_path).spread(10).source.notes == ()


def bomb(path: Path) -> None:
    """A PNG file of some kilobytes with 900 million pixels."""
    side = 30000

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + rows)


def cut(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:3000])


def line(path: Path) -> None:
    Image.new("1", (1, 6_000_000)).save(path, compress_level=1)


def scans(path: Path) -> None:
    """A JPEG of 40 KB with one scan 2,000 times."""
    Image.new("L", (2000, 2000)).save(path, progressive=True)
    content = path.read_bytes()
    last, end = content.rfind(b"\xff\xda"), content.rfind(b"\xff\xd9")
    path.write_bytes(content[:last] + content[last:end] * 2000 + content[end:])


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [
        ("scans.jpg", scans, "2000x2000 in 20"),
        ("text.jpg", lambda path: path.write_text("no picture"), "no picture that Pillow knows"),
        ("empty.png", lambda path: path.write_bytes(b""), "no picture that Pillow knows"),
        ("cut.png", cut, "can't be read as a picture"),
        ("bomb.png", bomb, "exceeds limit"),
        (
            "line.png",
            line,
            "would be resized to 16x96000000",
        ),
        ("gif.png", lambda path: Image.new("L", (9, 9)).save(path, "GIF"), "no picture that Pillow knows"),
        ("folder.png", lambda path: path.mkdir(), "holds no pictures"),
        ("missing.png", lambda path: None, "does not exist"),
        ("pipe.png", os.mkfifo, "is no picture"),
        ("loop.png", lambda path: path.symlink_to(path), "can't be read"),
        (f"{'a' * 5000}.png", lambda path: None, "File name too long"),
    ],
)
def test_a_file_that_is_no_picture_is_named(
    name: str, write: object, says: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    write(tmp_path / name)  # type: ignore[operator]
    with pytest.raises(InputError) as caught:
        _ = read(tmp_path / name).all
    assert name in caught.value.message
    assert says in caught.value.message
    assert caught.value.hint
    assert not recwarn.list


def test_damaged_metadata_of_a_picture_are_ignored(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    data = bytearray(exif.tobytes())
    data[10:20] = b"\xff" * 10
    Image.new("RGB", (20, 30)).save(tmp_path / "a.jpg", exif=bytes(data))
    assert len(read(tmp_path).all["input"]) == 1
    assert not recwarn.list


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pictures"):
        read(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"holds no pictures: it holds notes\.txt"):
        read(tmp_path)


# Arrays.


def archive(path: Path) -> bytes:
    np.savez_compressed(path, np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32))
    return path.read_bytes()


@hypothesis.given(strategies.data())
def test_damaged_archives_are_refused_or_read(tmp_path_factory: pytest.TempPathFactory, data: object) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.npz"
    content = bytearray(archive(path))
    draw = data.draw  # type: ignore[attr-defined]
    if draw(strategies.booleans()):
        content = content[: draw(strategies.integers(0, len(content) - 1))]
    for _ in range(draw(strategies.integers(0, 4))):
        if content:
            content[draw(strategies.integers(0, len(content) - 1))] = draw(strategies.integers(0, 255))
    path.write_bytes(bytes(content))
    with contextlib.suppress(InputError):
        read(path)


def lies(path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("text.npz", lambda path: path.write_bytes(b"PK\3\4x")),
        ("other.npz", lambda path: zipfile.ZipFile(path, "w").writestr("note.txt", "no array")),
        ("huge.npy", lambda path: lies(path, "(1000000000, 3, 16, 16)")),
        ("negative.npy", lambda path: lies(path, "(-1, 3, 16, 16)")),
        ("overflow.npy", lambda path: lies(path, f"({2**62}, {2**62}, 1, 1)")),
        ("none.npy", lambda path: None),
        ("pipe.npy", os.mkfifo),
    ],
)
def test_a_file_that_is_no_array_is_named(name: str, write: object, tmp_path: Path) -> None:
    write(tmp_path / name)  # type: ignore[operator]
    with pytest.raises(InputError, match=name):
        read(tmp_path / name)


def test_an_archive_that_unfolds_to_many_times_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attn_export.exporter.images.arrays.UNFOLDED", 0)
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((4, 3, 64, 64), np.float32))
    with pytest.raises(InputError, match="100 times the size of the file"):
        read(tmp_path / "x.npz")


def test_arrays_that_need_more_than_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", np.zeros((200, 3, 16, 16), np.float32))
    monkeypatch.setattr("attn_export.exporter.images.arrays.memory", lambda: Memory(10**6, 10**5))
    np.save(tmp_path / "a.npy", np.zeros((200, 3, 16, 16), np.float32))
    for ending in ("npz", "npy"):
        with pytest.raises(InputError, match=r"the limit is 0\.0 GB: free memory"):
            read(tmp_path / f"a.{ending}")


@pytest.mark.parametrize(
    ("pixels", "warns"),
    [
        (lambda draw: draw.uniform(0, 255, (8, 3, 16, 16)), "from 0.* to 255"),
        (lambda draw: draw.uniform(0, 1, (8, 3, 16, 16)), "from .* to 1; images"),
        (lambda draw: draw.uniform(-2, 1.6, (8, 3, 16, 16)), ""),
    ],
)
def test_arrays_that_cannot_have_been_normalized_so_are_warned_of(pixels: object, warns: str) -> None:
    images = pixels(np.random.default_rng(0)).astype(np.float32)  # type: ignore[operator]
    found = read_images(images, INPUTS, PictureOptions(NORMALIZATION))
    assert len(found.source.notes) == bool(warns)
    for note in found.source.notes:
        assert re.search(warns, note)
        assert "lie between -6 and 4" in note
    assert not read_images(images, INPUTS).source.notes


@pytest.mark.parametrize(("dtype", "hint"), [("uint8", "pixels of 0 to 255"), ("float32", "normalized")])
def test_an_array_of_another_type_is_refused_with_what_the_network_takes(dtype: str, hint: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 8, 8), "float32" if dtype == "uint8" else "complex64"))
    with pytest.raises(InputError) as refused:
        read_images(tmp_path / "a.npy", [Input("input", (1, 3, 8, 8), dtype)], PictureOptions())
    assert hint in refused.value.hint
