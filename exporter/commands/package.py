"""The command `attn-export package model.pt --triton DIR`."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from attn_export.exporter.commands import options, parse
from attn_export.exporter.commands.bench import split_sources
from attn_export.exporter.commands.console import load_checkpoint, make_progress, print_result
from attn_export.exporter.commands.groups import RangedLoading, Served, Shown, given
from attn_export.exporter.errors import UsageError


def package(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILES", help="A checkpoint, which is exported; or ONNX files and engines.")
    ],
    *,
    triton: Annotated[
        Path | None, Option(metavar="DIR", help="Model repository for Triton Inference Server.", show_default=False)
    ] = None,
    device: Annotated[
        Path | None,
        Option(metavar="DIR", help="Device folder: engines, their ONNX file, deployment bundles.", show_default=False),
    ] = None,
    gpus: options.Gpus = None,
    precisions: options.Precisions = None,
    licenses: Annotated[
        list[str] | None, Option("--license", metavar="SPDX", help="License of the network, for the device folder.")
    ] = None,
    bom: Annotated[bool, Option("--bom", help="Write a CycloneDX bill of materials into the device folder.")] = False,
    sign: Annotated[Path | None, Option(metavar="KEY", help="Private key in PEM, to sign every written file.")] = None,
    name: Annotated[
        str | None, Option(help="Name of the first model in the repository.", show_default="the file's stem")
    ] = None,
    max_batch: Annotated[
        int, Option(min=1, max=65536, help="Largest batch of ONNX files; an engine's profile has its own.")
    ] = 8,
    instances: Annotated[
        str, Option(metavar="[KIND:]N", help="Instances of each model, on gpu, cpu or auto: gpu:2.")
    ] = "1",
    latencies: Annotated[
        Path | None,
        Option(
            metavar="REPORT",
            help="Report of a bench at several batch sizes, from which Triton's preferred ones are chosen.",
        ),
    ] = None,
    loading: RangedLoading,
    served: Served,
    shown: Shown,
) -> None:
    """Package artifacts for deployment: a model repository for Triton, a folder for devices.

    A checkpoint is exported first, and its file proven like any export; with
    --gpu its engines are built, and a Jetson gets a deployment bundle.
    """
    if triton is None and device is None:
        raise UsageError(
            "neither --triton nor --device was given", hint="For example attn-export package model.pt --triton models"
        )
    if device is None:
        parse.refuse(
            {"--gpu": gpus, "--license": licenses, "--bom": bom}, "for device folders", "Add --device, or leave it out."
        )
    if triton is not None:
        parse.refuse({"--gpu": gpus}, "for engines of TensorRT-RTX, which Triton doesn't load", "Package twice.")
    as_asked, chosen = served.parse(), parse.parse_precisions(precisions)
    kind, count = parse.parse_instances(instances)
    checkpoint, files = split_sources(sources)
    how = loading.parse(checkpoint)
    if checkpoint is None:
        named = given(loading, but=["trust"]) | given(served, but=["labels"])
        named |= {"--gpu": bool(gpus), "--precision": bool(precisions)}
        parse.refuse(named, "for a checkpoint, and none was named", "Leave it out.")
    if quantized := [precision for precision in chosen if precision.is_quantized]:
        raise UsageError(
            f"--precision {quantized[0]} needs images to choose ranges from, and package takes none",
            hint=f"attn-export model.pt --onnx --precision {quantized[0]} --calibration DIR writes a file to package.",
        )
    with make_progress(shown.quiet) as progress, ExitStack() as stack:
        from attn_export.exporter.engine.settings import EngineSettings
        from attn_export.exporter.network.labels import read_labels
        from attn_export.exporter.report.read import read_report
        from attn_export.exporter.report.terminal import package_parts
        from attn_export.exporter.system.scratch import scratch_folder
        from attn_export.exporter.workflows.package import PackageSettings, check, exported
        from attn_export.exporter.workflows.package import package as write
        from attn_export.exporter.workflows.package_device import device_scratch
        from attn_export.exporter.workflows.package_triton import TritonSettings
        from attn_export.exporter.workflows.served import as_served

        settings = PackageSettings(
            repository=triton,
            triton=TritonSettings(name, max_batch, count, kind),
            device=device,
            licenses=tuple(licenses or ()),
            bom=bom,
            labels=read_labels(served.labels) if served.labels else None,
            report=read_report(latencies) if latencies else None,
            key=sign,
        )
        check(settings)
        if checkpoint is not None:
            model = as_served(load_checkpoint(checkpoint, progress, how), as_asked)
            scratch = stack.enter_context(scratch_folder(device_scratch(triton or device or Path())))
            engines = EngineSettings(gpus=parse.parse_gpus(gpus)) if gpus else None
            files = [*exported(model, scratch, checkpoint.stem, chosen, engines, progress), *files]
        result = write(files, settings, progress)
    print_result(result, package_parts(result), as_json=shown.as_json)
