"""The results of a sweep: one outcome for each job on disk, one row for each cell in the tables."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from attn_export.exporter.records.document import SCHEMA_VERSION
from attn_export.exporter.records.report import ErrorRecord

RowStatus = Literal["good", "bad", "failed"]


class Cell(Struct, frozen=True):
    """One cell of a plan. ``model``: its name in the plan; ``target``: "cpu", or the architecture of a GPU: "sm86"."""

    model: str
    precision: str
    target: str
    batch: int
    runtime: str

    def __str__(self) -> str:
        return f"{self.model} {self.precision} {self.target} batch {self.batch} {self.runtime}"


class Figures(Struct, frozen=True, kw_only=True):
    """What was found out about a cell; None where it wasn't.

    Attributes:
        agrees: whether the artifact computes what the network computes.
        error: largest relative error of its outputs, against the network in float64.
        error_ratio: largest error ratio of its outputs and gates.
        sqnr_db: quantization quality, in decibels.
        class_agreement: share of equal classes, of a quantized artifact.
        latency_ms, latency_low_ms, latency_high_ms: median and its confidence interval.
        p99_ms: of one inference.
        not_timed: why the engine was not run; its ONNX file was compared.
    """

    agrees: bool | None = None
    error: float | None = None
    error_ratio: float | None = None
    sqnr_db: float | None = None
    class_agreement: float | None = None
    bytes: int | None = None
    nodes: int | None = None
    kernels: int | None = None
    latency_ms: float | None = None
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None
    p99_ms: float | None = None
    images_per_second: float | None = None
    not_timed: str = ""


class Outcome(Struct, frozen=True, kw_only=True):
    """What a job found out, as it is kept: the key is the digest of its inputs, settings and versions."""

    key: str
    name: str
    figures: Figures
    files: tuple[str, ...] = ()
    error: ErrorRecord | None = None
    seconds: float = 0.0
    node: str = ""
    created: str = ""
    schema_version: int = SCHEMA_VERSION


class Row(Figures, frozen=True, kw_only=True):
    """A cell with its figures and those of its ONNX file.

    Attributes:
        model, precision, target, batch, runtime: see `Cell`.
        status: "good"; "bad" for a verdict that failed; "failed" for one that there isn't.
        exit_code, message: of the error; 0 and empty without one.
        report: path of the cell's report in the output folder; empty without one.
    """

    model: str
    precision: str
    target: str
    batch: int
    runtime: str
    status: RowStatus
    exit_code: int = 0
    message: str = ""
    seconds: float = 0.0
    node: str = ""
    report: str = ""

    @property
    def cell(self) -> Cell:
        """The cell."""
        return Cell(self.model, self.precision, self.target, self.batch, self.runtime)


class SweepReport(Struct, frozen=True, kw_only=True):
    """What a sweep found out: jobs computed and reused, seconds, combinations left out, a row for each cell."""

    out: str
    computed: int
    reused: int
    work_seconds: float
    seconds: float
    left_out: dict[str, int]
    rows: tuple[Row, ...]
    error: ErrorRecord | None = None
    schema_version: int = SCHEMA_VERSION


class PlannedCell(Struct, frozen=True):
    """A cell before it is computed. ``needs``: the jobs that come before it; ``nodes``: where it can run."""

    cell: Cell
    key: str
    needs: tuple[str, ...]
    nodes: tuple[str, ...]
    done: bool


class PlannedSweep(Struct, frozen=True, kw_only=True):
    """What `--dry-run` shows."""

    out: str
    cells: tuple[PlannedCell, ...]
    left_out: dict[str, int]
    schema_version: int = SCHEMA_VERSION


def merged(figures: Sequence[Figures]) -> dict[str, object]:
    """The figures of several outcomes as one; the last that is known counts."""
    found: dict[str, object] = {}
    for one in figures:
        for name in Figures.__struct_fields__:
            if (value := getattr(one, name)) not in (None, ""):
                found[name] = value
    return found
