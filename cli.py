"""The command line. Each command parses, calls one function of the library, and prints; nothing else prints.

Errors end here too: the library raises, `main` says it in words and gives the exit code. Heavy imports stand inside the
commands, so that ``--help`` answers at once.
"""

import difflib
import json
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from attn_export.exporter.errors import AttnExportError, OutputError, UnreadableCheckpointError, UsageError

INTERRUPTED, DEFECT = 130, 70
GLOBAL_FLAGS = ("--json", "--quiet", "--debug")
SCHEMA_VERSION = 1
REDIRECTED_WIDTH = 140
NO_MEMORY, TAKE_LESS = "there is not enough memory", "Take a smaller input or batch."

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notes.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run code that the checkpoint holds. Only for files of known origin.")
]


class RootGroup(TyperGroup):
    """Shows the options of the main command, which needs no name, before the other commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help of `export` under the program's own name, then the list of commands."""
        main_command = self.commands["export"]
        main_command.format_help(type(ctx)(main_command, info_name=ctx.info_name), formatter)
        from rich.table import Table

        listing = Table(title="Commands", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 1))
        for name, command in self.commands.items():
            listing.add_row(f"[bold cyan]{name}[/]", command.get_short_help_str(90))
        stdout().print(listing)
        stdout().print(
            "\n [dim]attn-export COMMAND --help shows a command's options, attn-export --version the version.[/]"
        )


app = typer.Typer(
    cls=RootGroup, pretty_exceptions_enable=False, context_settings={"help_option_names": ["--help", "-h"]}
)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """From a trained SE or CBAM network to a clean, proven ONNX file and a latency table."""
    if show_version:
        print(f"attn-export {version('attn-export')}")
    elif ctx.invoked_subcommand is None:
        print(ctx.get_help())


@app.command("export")
def export_command(
    checkpoint: Annotated[Path, typer.Argument(help="The trained network: model.pt", show_default=False)],
    onnx: Annotated[bool, typer.Option("--onnx", help="Write <stem>.onnx, proven equal to PyTorch.")] = False,
    arch: Annotated[
        str | None, typer.Option(help="Architecture of a bare state dict, such as cbam_resnet50.", show_default=False)
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option("--input", help="1x3x224x224; by default as the checkpoint says. N is timed.", show_default=False),
    ] = None,
    dynamic: Annotated[
        list[str] | None,
        typer.Option(help="Axes that stay open: batch,height,width.", show_default="batch", metavar="AXES"),
    ] = None,
    static: Annotated[bool, typer.Option("--static", help="No axis stays open.")] = False,
    opset: Annotated[int, typer.Option(help="ONNX operator set of the file.")] = 20,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results.", show_default="beside the checkpoint")
    ] = None,
    runtimes: Annotated[
        list[str] | None,
        typer.Option(
            help="What is timed: eager,compile,onnxruntime.", show_default="eager,onnxruntime", metavar="NAMES"
        ),
    ] = None,
    bench: Annotated[bool, typer.Option("--bench/--no-bench", help="Measure latencies.")] = True,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of every runtime.", show_default="all CPUs")
    ] = None,
    trust: Trust = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Turn a checkpoint into a proven, timed ONNX file.

    The file is compared with PyTorch in float64 before it gets its name; what disagrees is not written.

    The command needs no name: attn-export model.pt --onnx
    """
    suggest_for_missing(checkpoint)
    if not onnx:
        raise UsageError("nothing was asked for", hint=f"Say what to make: attn-export {checkpoint} --onnx")
    axes = parse_axes(dynamic, static)
    shape = parse_shape(input_shape)
    if trust:  # a module's code is usually beside the place where it was trained
        sys.path.insert(0, str(Path.cwd()))
    with listener(quiet) as progress:
        from attn_export.exporter.runtimes import DEFAULT_RUNTIMES, check_names
        from attn_export.exporter.workflow import ExportSettings, export_loaded

        names = check_names(split(runtimes)) or DEFAULT_RUNTIMES
        settings = ExportSettings(
            dynamic=axes,
            opset=opset,
            batch=shape[0] if shape else 1,
            runtimes=names if bench else (),
            threads=threads,
        )
        with progress.stage("Reading the checkpoint"):
            from attn_export.exporter.checkpoint import load

            model = load(checkpoint, arch=arch, input_shape=shape[1:] if shape else None, trust=trust)
        for note in model.notes:
            progress.note(note)
        result = export_loaded(model, out or checkpoint.parent, checkpoint.stem, settings, progress)
    if as_json:
        print_json(result.record)
        return
    from attn_export.exporter.report.terminal import export_summary, export_tables

    for part in [*export_tables(result.record), export_summary(result.record, result.onnx, result.report)]:
        stdout().print(part)


@app.command()
def models(as_json: AsJson = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the networks that can be built, with their sizes and what attention adds."""
    with listener(quiet) as progress, progress.stage("Counting") as advance:
        from attn_export.models.complexity import survey

        rows = list(survey(advance))
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, "models": rows})
        return
    from attn_export.exporter.report.terminal import models_table

    stdout().print(models_table(rows))


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Such as cbam_resnet50; `attn-export models` lists them.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="The checkpoint to write.", show_default=False)],
    num_classes: Annotated[int | None, typer.Option(min=1, help="Outputs.", show_default="the backbone's")] = None,
    in_channels: Annotated[int, typer.Option(min=1, help="Channels of the input image.")] = 3,
    reduction: Annotated[int | None, typer.Option(min=1, help="Of the channel gates.", show_default="16")] = None,
    kernel_size: Annotated[int, typer.Option(help="Of CBAM's spatial gates: 7 or 3.")] = 7,
    seed: Annotated[int, typer.Option(help="The random weights are drawn from it.")] = 0,
    weights: Annotated[
        Path | None, typer.Option(help="Weights of the backbone, for example torchvision's.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Build a network and write its checkpoint."""
    if out.exists() and not force:
        raise OutputError(f"{out} is already there", hint="It may hold trained weights. --force replaces it.")
    with listener(quiet) as progress, progress.stage(f"Building {name}"):
        from attn_export.exporter.checkpoint.create import create_checkpoint

        made = create_checkpoint(
            out,
            name,
            weights=weights,
            seed=seed,
            num_classes=num_classes,
            in_channels=in_channels,
            reduction=reduction,
            kernel_size=kernel_size,
        )
        for note in made["notes"]:
            progress.note(note)
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, **made})
        return
    from attn_export.exporter.report.terminal import creation_summary

    stdout().print(creation_summary(made))


def split(values: Iterable[str] | None) -> tuple[str, ...]:
    """Comma lists and repetition alike: ["a,b", "c"] -> ("a", "b", "c")."""
    return tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())


def parse_axes(dynamic: list[str] | None, static: bool) -> tuple[str, ...]:
    """The open axes.

    Raises:
        UsageError: contradictory or unknown.
    """
    known = ("batch", "height", "width")
    names = split(dynamic)
    if static and names:
        raise UsageError("--static and --dynamic contradict each other", hint="Leave one of them out.")
    for name in names:
        if name not in known:
            raise UsageError(f"--dynamic {name}: there is no such axis", hint=f"Known are {', '.join(known)}.")
    return () if static else names or ("batch",)


def parse_shape(text: str | None) -> tuple[int, ...] | None:
    """``1x3x224x224`` -> (1, 3, 224, 224).

    Raises:
        UsageError: it isn't of this form.
    """
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,5}(x[1-9]\d{0,5}){3}", text.lower()):
        raise UsageError(f"--input {text} is not a shape", hint="Expected is NxCxHxW, for example 1x3x224x224.")
    return tuple(int(part) for part in text.lower().split("x"))


def suggest_for_missing(checkpoint: Path) -> None:
    """For a word that is neither a file nor a command, the nearest of either.

    Raises:
        UsageError: there is no such file, and something else was probably meant.
        UnreadableCheckpointError: there is no such file, and nothing is near.
    """
    if checkpoint.exists():
        return
    word = str(checkpoint)
    commands = [name for name in command_names() if name != "export"]
    beside = [str(p) for p in checkpoint.parent.glob("*.pt")] if checkpoint.parent.is_dir() else []
    if near := difflib.get_close_matches(word, commands, n=1, cutoff=0.7):
        raise UsageError(f"{word!r} is neither a file nor a command", hint=f"Did you mean attn-export {near[0]}?")
    if near := difflib.get_close_matches(word, beside, n=1, cutoff=0.7):
        raise UsageError(f"there is no file {word!r}", hint=f"Did you mean {near[0]}?")
    raise UnreadableCheckpointError(
        f"{checkpoint} does not exist", hint=f"Expected is a checkpoint, or a command: {', '.join(commands)}."
    )


def command_names() -> list[str]:
    """Of all commands."""
    return [info.name or info.callback.__name__ for info in app.registered_commands if info.callback]


def route(arguments: Sequence[str]) -> list[str]:
    """Put the main command's name in front where it was left out, and flags of every command behind the command."""
    words = list(arguments)
    leading = 0
    while leading < len(words) and words[leading] in GLOBAL_FLAGS:
        leading += 1
    command, rest = words[leading : leading + 1], words[leading + 1 :]
    if not command or command[0] in ("--help", "-h", "--version"):
        return command
    if command[0] in command_names():
        return [*command, *words[:leading], *rest]
    return ["export", *words]


def stdout() -> Any:
    """The console for results. Where nobody's window sets the width, tables may be as wide as they need to be."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else REDIRECTED_WIDTH, highlight=False)


@contextmanager
def listener(quiet: bool) -> Iterator[Any]:
    """What hears of the library's progress: on standard error, a moving bar in a terminal and a line elsewhere."""
    from attn_export.exporter.progress import Silent
    from attn_export.exporter.report.live import Bars, Lines

    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        with Bars(sys.stderr) as bars:
            yield bars
    else:
        yield Lines(sys.stderr)


def print_json(document: dict[str, Any]) -> None:
    """The result for machines."""
    try:
        print(json.dumps(document, indent=1, allow_nan=False), flush=True)
    except BrokenPipeError:
        let_go_of_stdout()


def let_go_of_stdout() -> None:
    """Whoever read the result has gone away; what is still buffered must go somewhere."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123


def complain(message: str, hint: str, code: int, arguments: Sequence[str]) -> None:
    """An error: in words on standard error, and as the result under ``--json``."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text.assemble(("error: ", "bold red"), message))
    if hint:
        console.print(Text.assemble(("  → ", "bold cyan"), hint))
    if "--json" in arguments:
        error = {"message": message, "hint": hint, "exit_code": code}
        print_json({"schema_version": SCHEMA_VERSION, "error": error})


def hint_for_misuse(arguments: Sequence[str]) -> str:
    """What was probably meant: a command, if the first word nearly is one."""
    words = [word for word in arguments if word.isidentifier()]
    near = difflib.get_close_matches(words[0], command_names(), n=1, cutoff=0.7) if words else []
    if near and near[0] not in words:
        return f"Did you mean attn-export {near[0]}?"
    return "attn-export --help shows the options."


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code, see docs/architecture.md."""
    debug = "--debug" in arguments
    try:
        code = app(args=route(arguments), prog_name="attn-export", standalone_mode=False)
    except AttnExportError as error:
        complain(error.message, error.hint, error.exit_code, arguments)
        if debug:
            import traceback

            traceback.print_exc()
        return error.exit_code
    except typer.TyperException as error:  # the parser's own: an unknown option, a missing value
        complain(error.format_message(), hint_for_misuse(arguments), UsageError.exit_code, arguments)
        return UsageError.exit_code
    except (BrokenPipeError, SystemExit):  # typer and rich exit where the reader of the result has gone away
        let_go_of_stdout()
        return 0
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except MemoryError:
        complain(NO_MEMORY, TAKE_LESS, OutputError.exit_code, arguments)
        return OutputError.exit_code
    except Exception as error:
        if "can't allocate memory" in str(error):
            complain(NO_MEMORY, TAKE_LESS, OutputError.exit_code, arguments)
            return OutputError.exit_code
        if debug:
            import traceback

            traceback.print_exc()
        complain(
            f"{type(error).__name__}: {error}",
            "This is a defect of attn-export, please report it with the output of --debug.",
            DEFECT,
            arguments,
        )
        return DEFECT
    if code == INTERRUPTED:
        complain("interrupted; nothing was left half-written", "", INTERRUPTED, arguments)
    return int(code or 0)


def main() -> NoReturn:
    """The program. What asks it to stop (`kill`, a scheduler, a closed terminal) is an interrupt like Ctrl-C."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
