"""Options of the commands that build engines, and the words that they take."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attn_export.exporter.artifacts import EXPORT_PRECISIONS, Precision
from attn_export.exporter.commands.options import split
from attn_export.exporter.errors import UsageError

if TYPE_CHECKING:
    from attn_export.exporter.engine.profile import Sizes
    from attn_export.exporter.engine.settings import EngineSettings

PANEL = "Engines"
AUTO = "auto"
LARGEST_SIZE = 65536

Precisions = Annotated[
    list[str] | None,
    typer.Option(
        "--precision",
        help="What the graph computes in: fp32,fp16.",
        show_default="fp32",
        metavar="NAMES",
    ),
]
Gpus = Annotated[
    list[str] | None,
    typer.Option(
        "--gpu",
        help="sm86,sm89, a product such as 'RTX 4090', or current. For a Jetson a deployment bundle is written.",
        show_default="all of TensorRT-RTX's, or this machine's",
        metavar="NAMES",
        rich_help_panel=PANEL,
    ),
]
BackendName = Annotated[
    str, typer.Option("--backend", help="auto, tensorrt or tensorrt-rtx.", metavar="NAME", rich_help_panel=PANEL)
]
Batch = Annotated[
    list[str] | None,
    typer.Option(
        "--batch",
        help="Batches that the engine takes: 1,8,32 (min, opt, max), or one number.",
        show_default="1,1,8",
        metavar="N[,N,N]",
        rich_help_panel=PANEL,
    ),
]
Size = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        help="Images, where height and width are open: 224x224, or 192x192,224x224,320x320.",
        show_default=False,
        metavar="HxW[,HxW,HxW]",
        rich_help_panel=PANEL,
    ),
]
Tf32 = Annotated[bool, typer.Option("--tf32", help="Let float32 products be rounded to TF32.", rich_help_panel=PANEL)]
AllowMixed = Annotated[
    bool,
    typer.Option("--allow-mixed", help="Accept kernels in another type than the graph says.", rich_help_panel=PANEL),
]
KeepGoing = Annotated[
    bool,
    typer.Option("--keep-going", help="Where a GPU can't be built for, build for the others.", rich_help_panel=PANEL),
]
Workspace = Annotated[
    int | None,
    typer.Option(
        "--workspace", min=1, help="Most memory for a kernel, MiB.", show_default="no limit", rich_help_panel=PANEL
    ),
]
TimingCache = Annotated[
    Path | None,
    typer.Option(help="Timings of earlier builds, read and written.", show_default=False, rich_help_panel=PANEL),
]
VersionCompatible = Annotated[
    bool, typer.Option("--version-compatible", help="Runs with later TensorRTs too.", rich_help_panel=PANEL)
]
HardwareCompatible = Annotated[
    bool, typer.Option("--hardware-compatible", help="Runs on other GPUs from sm80 on too.", rich_help_panel=PANEL)
]


def refuse_without_engine(options: Mapping[str, Any]) -> None:
    """Where no engine is asked for, its options are a mistake.

    Raises:
        UsageError: naming those that were given.
    """
    if given := [option for option, value in options.items() if value]:
        words = f"{', '.join(given)} {'are' if len(given) > 1 else 'is'} for engines"
        raise UsageError(words, hint="Add --engine, or leave it out.")


def parse_precisions(names: Iterable[str] | None) -> tuple[Precision, ...]:
    """The precisions without repetition; float32 where none is named.

    Raises:
        UsageError: one of them isn't known.
    """
    known = [precision.value for precision in EXPORT_PRECISIONS]
    for name in split(names):
        if name not in known:
            raise UsageError(f"--precision {name}: there is no such precision", hint=f"Known are {', '.join(known)}.")
    return tuple(Precision(name) for name in dict.fromkeys(split(names))) or (Precision.FP32,)


def parse_sizes(batch: Iterable[str] | None, size: Iterable[str] | None) -> "Sizes":
    """The min, opt and max shapes from ``1,8,32`` and ``192x192,224x224,320x320``; one size stands for all three.

    Raises:
        UsageError: they aren't of this form, or aren't in ascending order.
    """
    from attn_export.exporter.engine.profile import Sizes

    batches = [_number("--batch", word) for word in split(batch)]
    images = [_image(word) for word in split(size)]
    triple = _triple("--batch", batches, "1,8,32") if batches else None
    if not images:
        return Sizes(triple)
    heights = _triple("--size", [height for height, _ in images], "192x192,224x224,320x320")
    widths = _triple("--size", [width for _, width in images], "192x192,224x224,320x320")
    low, usual, high = zip(heights, widths, strict=True)
    return Sizes(triple, (low, usual, high))


def _number(option: str, word: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,4}", word) or int(word) > LARGEST_SIZE:
        raise UsageError(f"{option} {word} is not a size", hint=f"Expected is a number from 1 to {LARGEST_SIZE}.")
    return int(word)


def _image(word: str) -> tuple[int, int]:
    parts = word.lower().split("x")
    if len(parts) != 2:
        raise UsageError(f"--size {word} is not a size", hint="Expected is HxW, for example 224x224.")
    height, width = (_number("--size", part) for part in parts)
    return height, width


def _triple(option: str, sizes: list[int], example: str) -> tuple[int, int, int]:
    if len(sizes) == 1:
        return sizes[0], sizes[0], sizes[0]
    if len(sizes) != 3:
        raise UsageError(
            f"{option} has {len(sizes)} sizes", hint=f"Expected is one, or smallest, usual and largest: {example}."
        )
    if sizes != sorted(sizes):
        raise UsageError(
            f"{option}: {sizes[0]}, {sizes[1]}, {sizes[2]} are not smallest, usual and largest",
            hint=f"Give them in ascending order: {example}.",
        )
    return sizes[0], sizes[1], sizes[2]


def engine_settings(
    gpus: list[str] | None,
    backend: str,
    batch: list[str] | None,
    size: list[str] | None,
    *,
    opt_batch: int = 1,
    tf32: bool = False,
    allow_mixed: bool = False,
    keep_going: bool = False,
    workspace: int | None = None,
    timing_cache: Path | None = None,
    version_compatible: bool = False,
    hardware_compatible: bool = False,
) -> "EngineSettings":
    """The options as the library takes them.

    Raises:
        UsageError: a word can't be understood.
    """
    from attn_export.exporter.engine.backend import MODULES
    from attn_export.exporter.engine.settings import EngineSettings
    from attn_export.exporter.engine.targets import parse_targets
    from attn_export.exporter.records.engine import BuildOptions

    parse_targets(split(gpus))  # before anything takes time
    if backend not in (AUTO, *MODULES):
        raise UsageError(f"--backend {backend}: unknown backend", hint=f"Known are auto, {', '.join(MODULES)}.")
    return EngineSettings(
        gpus=split(gpus),
        backend=backend,
        sizes=parse_sizes(batch, size),
        opt_batch=opt_batch,
        options=BuildOptions(
            tf32=tf32,
            workspace_mib=workspace,
            timing_cache=timing_cache,
            version_compatible=version_compatible,
            hardware_compatible=hardware_compatible,
        ),
        allow_mixed=allow_mixed,
        keep_going=keep_going,
    )
