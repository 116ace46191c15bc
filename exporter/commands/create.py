"""The command `attn-export create cbam_resnet50 -o model.pt`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from attn_export.exporter.commands.console import make_progress, print_json, stdout
from attn_export.exporter.commands.groups import Shown
from attn_export.exporter.errors import OutputError, UsageError
from attn_export.exporter.system.files import is_taken


def create(
    name: Annotated[
        str,
        typer.Argument(
            help="Such as cbam_resnet50; `attn-export models` lists them. With --attention also torchvision:NAME and "
            "timm:NAME."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--output", help="The checkpoint to write.")],
    *,
    attention: Annotated[
        str | None, typer.Option(help="Attention to add: se, cbam, eca, scse, bam, coord, simam, gct, triplet, ge.")
    ] = None,
    where: Annotated[
        str, typer.Option(help="After each stage, each block, the last feature map, or modules: layer3,layer4.1.")
    ] = "stage",
    num_classes: Annotated[
        int | None, typer.Option(min=1, help="Number of classes.", show_default="the backbone's")
    ] = None,
    in_channels: Annotated[int, typer.Option(min=1, help="Channels of the input image.")] = 3,
    reduction: Annotated[
        int | None, typer.Option(min=1, help="Reduction ratio of the hidden layers.", show_default="the paper's own")
    ] = None,
    kernel_size: Annotated[int, typer.Option(help="Kernel size of CBAM's spatial gates: 7 or 3.")] = 7,
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 0,
    weights: Annotated[Path | None, typer.Option(help="Weights of the backbone, for example torchvision's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    shown: Shown,
) -> None:
    """Build a network and write its checkpoint."""
    if is_taken(out) and not force:
        raise OutputError(f"{out} is already there", hint="It may hold trained weights. --force replaces it.")
    with make_progress(shown.quiet) as progress, progress.stage(f"Building {name}"):
        made = _made(
            out,
            name,
            attention,
            where,
            weights=weights,
            seed=seed,
            num_classes=num_classes,
            in_channels=in_channels,
            reduction=reduction,
            kernel_size=kernel_size,
        )
        for note in made["notes"]:
            progress.note(note)
    if shown.as_json:
        from attn_export.exporter.records.document import SCHEMA_VERSION

        print_json({"schema_version": SCHEMA_VERSION, **made})
        return
    from attn_export.exporter.report.terminal import creation_summary

    stdout().print(creation_summary(made))


def _made(out: Path, name: str, attention: str | None, where: str, **options: Any) -> dict[str, Any]:
    from attn_export.exporter.checkpoint.create import create_checkpoint, create_named

    if attention is not None:
        places = where if where in ("stage", "block", "last") else tuple(where.split(","))
        return create_named(out, name, attention, places, **options)
    if ":" in name:
        raise UsageError(f"{name} is created with attention", hint="Add --attention cbam, or another.")
    return create_checkpoint(out, name, **options)
