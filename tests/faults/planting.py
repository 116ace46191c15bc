"""Plants faults in good files, and has the verdict judge what came of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import onnx
import onnx_ir as ir

from attn_export.exporter.artifacts import LoadedModel, OnnxFile, Precision
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.cleanup.pipeline import clean_graph
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.graph import write as onnx_file
from attn_export.exporter.graph.gates import gates_of
from attn_export.exporter.network.axes import opened
from attn_export.exporter.network.batches import batches
from attn_export.exporter.precision.typed_file import typed_file
from attn_export.exporter.records.verdict import Comparison, Verdict
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.validation.reference import Reference
from attn_export.exporter.validation.validate import validate
from attn_export.models.registry import create
from tests.cleanup.spellings import SPELLINGS, Network
from tests.faults.catalogue import AFTER, FAILS, LATER, OUTPUT, OWN, PLACES, PUBLISHED, UNPAIRED, Fault
from tests.faults.editing import Edited, Place
from tests.numbers import or_infinite
from tests.shared import capture, compute_reference

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
SIZE = 64
ONE_THREAD = Settings(threads=1)
BOTH = (Precision.FP32, Precision.FP16)


@dataclass(frozen=True)
class Row:
    """What became of one fault in one network.

    Attributes:
        fault, network: which.
        caught: whether it was.
        check: what caught it, of the names in `library`.
        tensor: where it was first seen.
        ratio: the largest; infinite where a number is none.
    """

    fault: str
    network: str
    caught: bool
    check: str
    tensor: str
    ratio: float


class Subject:
    """A network with its good files and its reference, each made when it is first asked for.

    Args:
        name: of the zoo, or of a trained digits network.
        folder: for files.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self._good: dict[Path, bytes] = {}

    @cached_property
    def model(self) -> LoadedModel:
        if self.name.endswith("_digits"):
            return load(DIGITS / f"{self.name}.pt")
        if self.name in PUBLISHED:
            spelling = next(s for s in SPELLINGS if s.name == "CBAM with Linear layers")
            return from_module(Network(*[spelling] * 3), (3, 16, 16))
        return from_module(create(self.name), (3, SIZE, SIZE))

    @cached_property
    def reference(self) -> Reference:
        return compute_reference(self.model, batches(opened(self.model.inputs)), precisions=BOTH)

    @cached_property
    def file(self) -> OnnxFile:
        return onnx_file.write(clean_graph(capture(self.model))[0], self.folder / f"{self.name}.onnx")

    @cached_property
    def half(self) -> OnnxFile:
        path = self.folder / f"{self.name}.fp16.onnx"
        return typed_file(self.file, Precision.FP16, self.reference.batches, path, ONE_THREAD.threads)

    def faulty(self, plant: Callable[[Edited], None], file: OnnxFile | None = None) -> OnnxFile:
        """A file with a change. Its gates are read from it, as after a real export."""
        file = file or self.file
        edited = Edited(file.path)
        if file.path not in self._good:
            self._good[file.path] = edited.model.SerializeToString()
        plant(edited)
        after = edited.model.SerializeToString()
        assert after != self._good[file.path], "a fault that changes nothing is none"
        path = self.folder / "faulty.onnx"
        path.write_bytes(after)
        onnx.checker.check_model(str(path), full_check=True)
        return replace(file, path=path, gates=gates_of(ir.load(path)))


def judge(fault: Fault, subject: Subject) -> Row:
    """Plant it and look what catches it."""
    place = PLACES[subject.name]
    file = subject.faulty(lambda edited: fault.plant(edited, place))
    try:
        verdict = validate(file, subject.reference, ONE_THREAD)
    except RuntimeUnavailableError:
        return Row(fault.name, subject.name, True, FAILS, "", math.inf)
    return row(fault.name, subject.name, verdict, place)


def row(fault: str, network: str, verdict: Verdict, place: Place) -> Row:
    """The verdict as an entry of the table."""
    first = verdict.first_disagreement
    if first is None:
        return Row(fault, network, False, "", "", or_infinite(verdict.worst.ratio))
    check = UNPAIRED if verdict.gates_missed else check_of(first, place)
    return Row(fault, network, True, check, first.tensor, or_infinite(verdict.worst.ratio))


def check_of(first: Comparison, place: Place) -> str:
    """Which comparison it was."""
    if first.role == "output":
        return OUTPUT
    return {place.gate: OWN, place.after: AFTER}.get(first.tensor, LATER)


def is_seen_where_expected(fault: Fault, found: Row) -> bool:
    """Whether the fault was seen first where it has to be."""
    return found.check == fault.seen or (fault.seen == LATER and found.check in (OWN, AFTER, OUTPUT, LATER))
