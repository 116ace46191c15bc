"""The command `attn-export quantize model.onnx --calibration images.npz`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from attn_export.exporter.artifacts import AROUND, QUANTIZED
from attn_export.exporter.commands import options, parse
from attn_export.exporter.commands.console import make_progress, print_result
from attn_export.exporter.commands.groups import Pictures, Shown
from attn_export.exporter.errors import UsageError


def quantize(
    source: Annotated[Path, typer.Argument(help="A float32 ONNX file, such as an export's.")],
    calibration: Annotated[
        list[Path] | None,
        Option(
            metavar="DIR|FILE",
            help="About a hundred typical images: a folder, pictures, .npy, .npz or module:name.",
            show_default="required",
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None, Option("-o", "--output", help="The int8 file.", show_default="<stem>.int8.onnx")
    ] = None,
    target: Annotated[
        str | None,
        Option("--for", metavar="RUNTIME", help="Form: tensorrt (symmetric) or onnxruntime.", show_default="tensorrt"),
    ] = None,
    precision: Annotated[str, Option(metavar="NAME", help="int8, or fp8 for GPUs from sm89 on.")] = "int8",
    around: options.Around = "fp32",
    images: Annotated[
        list[Path] | None, Option(metavar="DIR|FILE", help="Other images, on which the quality is required.")
    ] = None,
    pictures: Pictures,
    gates: Annotated[
        bool | None,
        Option("--gates/--no-gates", help="Quantize attention blocks too.", show_default="for onnxruntime"),
    ] = None,
    exclude: Annotated[
        list[str] | None, Option(metavar="NAME", help="A node, or a module with everything in it, to keep in float32.")
    ] = None,
    ranges: Annotated[
        str | None, Option(metavar="METHOD", help="minmax, mse or percentile.", show_default="the best of them")
    ] = None,
    correct_bias: Annotated[bool, Option("--correct-bias/--no-correct-bias", help="Correct biases in order.")] = True,
    equalize: Annotated[
        bool, Option("--equalize/--no-equalize", help="Equalize channels around depthwise convolutions.")
    ] = True,
    rounding: Annotated[
        str, Option(metavar="METHOD", help="Rounding of weights: nearest, descent (seconds) or adaround (minutes).")
    ] = "descent",
    show_sensitivity: Annotated[
        bool, Option("--sensitivity", help="Measure the error of each layer and block quantized alone.")
    ] = False,
    min_sqnr: Annotated[
        float | None, Option(metavar="DB", help="Keep the fewest layers in float32 that reach this SQNR.")
    ] = None,
    max_drop: Annotated[
        float | None,
        Option(metavar="POINTS", help="Or with which at most this many percent of the images change class."),
    ] = None,
    require: Annotated[
        list[str] | None, Option(metavar="LIMITS", help="Quality: sqnr=20,agreement=0.99.", show_default="sqnr=3")
    ] = None,
    reports: Annotated[
        list[Path] | None, Option("--report", help="Also write a report (html, json).", metavar="FILES")
    ] = None,
    threads: options.Threads = None,
    shown: Shown,
) -> None:
    """Quantize an ONNX file to int8 or float8, with its attention in floats.

    QuantizeLinear and DequantizeLinear are written where the runtime can
    use them, and the quality of the written file is measured.
    """
    if not calibration:
        raise UsageError(
            f"{precision} needs images to choose ranges from",
            hint="--calibration DIR: a folder with a hundred typical pictures, or an array of preprocessed ones.",
        )
    preprocessing, written = pictures.parse([*calibration, *(images or ())]), parse.report_paths(reports)
    with make_progress(shown.quiet) as progress:
        from attn_export.exporter.precision.int8.placement import Choices
        from attn_export.exporter.precision.int8.ranges import Method
        from attn_export.exporter.precision.int8.rounding import Rounding
        from attn_export.exporter.precision.int8.settings import QuantizeSettings
        from attn_export.exporter.report.terminal import quantize_parts
        from attn_export.exporter.report.write import QUANTIZATION_FORMATS, check_reports, write_reports
        from attn_export.exporter.validation.quantized import parse_requirement
        from attn_export.exporter.workflows.quantize import quantize_file

        settings = QuantizeSettings(
            Choices(parse.parse_target(target or "tensorrt"), gates, tuple(parse.split(exclude))),
            precision=parse.choice("--precision", precision, QUANTIZED),
            around=parse.choice("--around", around, AROUND),
            method=parse.choice("--ranges", ranges, Method) if ranges is not None else None,
            correct_bias=correct_bias,
            equalize=equalize,
            rounding=parse.choice("--rounding", rounding, Rounding),
            sensitivity=show_sensitivity,
            min_sqnr=min_sqnr,
            max_drop=None if max_drop is None else max_drop / 100,
            requirement=parse_requirement(parse.split(require)),
            threads=threads,
        )
        out = out or source.with_name(f"{source.stem}{settings.precision.suffix}.onnx")
        check_reports(written, QUANTIZATION_FORMATS, sources=(source, out))
        result = quantize_file(
            source,
            out,
            calibration,
            held_out=images or None,
            pictures=preprocessing,
            settings=settings,
            progress=progress,
        )
        write_reports(result, written, QUANTIZATION_FORMATS)
    print_result(result, quantize_parts(result, out), as_json=shown.as_json, reports=written)
