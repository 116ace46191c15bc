"""Damages good files at random and reads them.

    python -m tests.attack.fuzz [--reader graph] [--inputs N] [--seed S]

Every reader gets N damaged inputs, in processes of their own that do thousands each. What must not happen: an exception
that isn't one of attn-export's errors, a signal, more than 20 s for one input, or more than 2 GiB. Prints each such
place once, and a table; the exit code is 1 if there was any. ``--guided`` lets atheris, where it is installed, choose
the inputs by what code they reach.
"""

import argparse
import importlib
import io
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.attack.campaign import good_files
from tests.attack.documents import MANIFEST, archive, text
from tests.attack.values import INTEGERS, JSON, places, replaced

SECONDS, MOST_MIB, PER_PROCESS = 20, 2048, 2000
BYTES = (b"", b"\0", b"\xff", b"\x7f", b"\x80", b"\xff" * 9 + b"\x01", b"(", b"R", b".", b"}", b"PK\x03\x04")


@dataclass(frozen=True)
class Reader:
    """A function that reads files, and good files for it.

    Attributes:
        name: of the file, with the extension that the reader expects.
        read: takes the path.
        seeds: contents of good files.
    """

    name: str
    read: Callable[[Path], object]
    seeds: tuple[bytes, ...]


@dataclass(frozen=True)
class Tally:
    """What became of the inputs of a reader.

    Attributes:
        inputs: how many.
        read: taken for good.
        problems: what must not happen, with the input's number the first time, and how often.
        mib: the most memory.
    """

    inputs: int
    read: int
    problems: Mapping[str, tuple[int, int]]
    mib: int


def readers(folder: Path) -> dict[str, Reader]:
    """Every reader of foreign files."""
    from attn_export.exporter.artifacts import Input
    from attn_export.exporter.bundle.read import read_bundle
    from attn_export.exporter.checkpoint.load import load
    from attn_export.exporter.cleanup.inspect import inspect_file
    from attn_export.exporter.comparison.read import read_timed_report
    from attn_export.exporter.engine.sidecar import read_sidecar
    from attn_export.exporter.images.read import read_images

    good = good_files(folder)
    inputs = (Input("x", (1, 3, 8, 8)),)
    array = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    zoo = checkpoint_bytes(folder)
    return {
        "graph": Reader("m.onnx", inspect_file, (good.graph,)),
        "sidecar": Reader("m.engine.json", lambda path: read_sidecar(path.with_suffix("")), (text(good.sidecar),)),
        "report": Reader("m.json", read_timed_report, (text(good.report),)),
        "bundle": Reader("m.bundle.zip", read_bundle, (archive(good.bundle),)),
        "checkpoint": Reader("m.pt", lambda path: load(path, arch="se_resnet8"), zoo),
        "array": Reader("m.npy", lambda path: read_images(path, inputs), (saved(np.save, array),)),
        "arrays": Reader("m.npz", lambda path: read_images(path, inputs), (saved(np.savez_compressed, array),)),
    }


def saved(save: Callable[..., None], array: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, array)
    return buffer.getvalue()


def checkpoint_bytes(folder: Path) -> tuple[bytes, ...]:
    """A network as the program writes it, its weights alone, pickled without an archive, and as safetensors."""
    import safetensors.torch
    import torch

    from attn_export.cli import run

    path = folder / "seed.pt"
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert run(["create", "se_resnet8", "-o", str(path), "--quiet"]) == 0
    weights = torch.load(path, weights_only=True)["state_dict"]
    found = [path.read_bytes(), safetensors.torch.save(weights)]
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        buffer = io.BytesIO()
        torch.save({"state_dict": weights, "epoch": 3}, buffer, **options)
        found.append(buffer.getvalue())
    return tuple(found)


# Damage.


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The content with something wrong: in its structure if it has one that is known, else in its bytes."""
    if content.startswith(b"{") and draw.random() < 0.8:
        return damaged_document(content, draw)
    if content.startswith(b"PK") and draw.random() < 0.8:
        return damaged_archive(content, draw)
    return damaged_bytes(content, draw)


def damaged_document(content: bytes, draw: random.Random) -> bytes:
    document = json.loads(content)
    for _ in range(draw.choice((1, 1, 2, 4))):
        found = list(places(document))
        if not found:
            break
        document = replaced(document, draw.choice(found), draw.choice(JSON))
    return text(document)


def damaged_archive(content: bytes, draw: random.Random) -> bytes:
    """One member is damaged; a bundle's manifest gets the right checksums half of the time."""
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    small = [name for name, data in members.items() if len(data) < 2**17] or list(members)
    name = draw.choice(small)
    members[name] = damaged(members[name], draw)
    if MANIFEST in members and name != MANIFEST and draw.random() < 0.5:
        from tests.attack.documents import listed

        members[MANIFEST] = listed(json.loads(members[MANIFEST]), members)
    return archive(members)


def damaged_bytes(content: bytes, draw: random.Random) -> bytes:
    result = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        # Structure is at the front of most files, and weights behind it.
        at = draw.randrange(min(len(result), draw.choice((64, 1024, len(result) + 1))) + 1)
        length = draw.choice((1, 2, 4, 16, 256))
        match draw.randrange(7):
            case 0:
                result[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del result[at:]
            case 2:
                del result[at : at + length]
            case 3:
                result[at:at] = result[at : at + length]
            case 4:
                result[at : at + 8] = struct.pack("<q", draw.choice(INTEGERS))
            case 5:
                result[at : at + 1] = draw.choice(BYTES)
            case _:
                result[at:at] = bytes(draw.randrange(256) for _ in range(length))
    return bytes(result)


def input_of(reader: Reader, seed: int, number: int) -> bytes:
    """The damaged file of a number, the same every time."""
    draw = random.Random(f"{seed} {number}")
    return damaged(draw.choice(reader.seeds), draw)


# Runs.


def fuzz(reader: Reader, inputs: int, seed: int, folder: Path) -> Tally:
    """Read so many damaged files."""
    shared = mmap.mmap(-1, 8)
    problems: dict[str, tuple[int, int]] = {}
    done = read = mib = 0
    while done < inputs:
        ending = min(inputs, done + PER_PROCESS)
        source, target = os.pipe()
        shared[:] = struct.pack("<q", done)
        pid = os.fork()
        if pid == 0:
            os.close(source)
            _read_all(reader, range(done, ending), seed, folder, shared, target)
        os.close(target)
        with os.fdopen(source, "rb") as stream:
            lines = [json.loads(line) for line in stream]
        _, status, usage = os.wait4(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        mib = max(mib, usage.ru_maxrss // 1024)
        for line in lines:
            read += line["read"]
            if line["problem"]:
                first, count = problems.get(line["problem"], (line["number"], 0))
                problems[line["problem"]] = (first, count + 1)
        done = ending
        if code != 0:
            number = struct.unpack("<q", shared[:])[0]
            problems.setdefault(f"ended by {signal.Signals(-code).name if code < 0 else code}", (number, 1))
            done = number + 1
    return Tally(inputs, read, problems, mib)


def _read_all(reader: Reader, numbers: range, seed: int, folder: Path, shared: mmap.mmap, target: int) -> None:
    """Read the inputs of these numbers, tell what happened, and end the process."""
    for limit, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, 8 * 2**30)):
        resource.setrlimit(limit, (most, most))
    signal.signal(signal.SIGALRM, _late)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    with os.fdopen(target, "w", buffering=1) as told, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        for number in numbers:
            shared[:] = struct.pack("<q", number)
            path = folder / reader.name
            path.write_bytes(input_of(reader, seed, number))
            signal.alarm(SECONDS)
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 3 * SECONDS, resource.RLIM_INFINITY))
            problem = problem_of(reader, path)
            signal.alarm(0)
            told.write(json.dumps({"number": number, "problem": problem or "", "read": problem is None}) + "\n")
    os._exit(0)


def _late(*_: object) -> None:
    signal.alarm(SECONDS)  # a second one ends what swallows the first
    raise TimeoutError


def problem_of(reader: Reader, path: Path) -> str | None:
    """What must not happen when the file is read; empty if it is refused, None if it is taken for good."""
    from attn_export.exporter.errors import AttnExportError

    try:
        reader.read(path)
    except AttnExportError:
        return ""
    except BaseException as error:
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "exporter" in frame.filename]
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        return f"{type(error).__name__} at {place}"
    return None


def guided(reader: Reader, inputs: int, folder: Path) -> None:
    """Let atheris choose the inputs by what code they reach; it ends the process, with 77 at the first problem."""
    atheris: Any = importlib.import_module("atheris")

    def one_input(content: bytes) -> None:
        path = folder / reader.name
        path.write_bytes(content)
        if problem := problem_of(reader, path):
            raise AssertionError(problem)

    seeds = folder / "seeds"
    seeds.mkdir()
    for number, content in enumerate(reader.seeds):
        (seeds / str(number)).write_bytes(content)
    options = [f"-atheris_runs={inputs}", f"-timeout={SECONDS}", f"-rss_limit_mb={MOST_MIB}", "-max_len=1000000"]
    atheris.Setup([sys.argv[0], *options, str(seeds)], one_input)
    atheris.Fuzz()


def table(tallies: Mapping[str, Tally]) -> Iterator[str]:
    yield f"{'reader':12}{'inputs':>9}{'taken':>8}{'refused':>9}{'problems':>10}{'most memory':>13}"
    for name, tally in tallies.items():
        bad = sum(count for _, count in tally.problems.values())
        refused = tally.inputs - tally.read - bad
        yield f"{name:12}{tally.inputs:>9}{tally.read:>8}{refused:>9}{bad:>10}{tally.mib:>9} MiB"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", help="one of them; all by default")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, help="write the damaged file of this number to standard output")
    parser.add_argument("--guided", action="store_true", help="with atheris; takes one --reader")
    options = parser.parse_args()
    tallies = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.guided:
            atheris: Any = importlib.import_module("atheris")

            atheris.enabled_hooks.add("str")
            with atheris.instrument_imports(include=["attn_export.exporter"]):
                found = readers(folder)
            guided(found[options.reader], options.inputs, folder)
        for reader, how in readers(folder).items():
            if reader != (options.reader or reader):
                continue
            if options.show is not None:
                sys.stdout.buffer.write(input_of(how, options.seed, options.show))
                return 0
            tallies[reader] = fuzz(how, options.inputs, options.seed, folder)
            for problem, (first, count) in tallies[reader].problems.items():
                print(f"{reader}: {count} times, first at input {first}: {problem}", flush=True)
    print("\n".join(table(tallies)))
    return int(any(tally.problems or tally.mib > MOST_MIB for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
