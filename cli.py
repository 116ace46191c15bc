"""The command line: which commands there are, and where errors end.

A command is a file in ``exporter/commands``. The library raises, `run` says it in words and gives the exit code. Heavy
imports stand inside the commands, so that ``--help`` answers at once.
"""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from attn_export.exporter.commands import (
    bench,
    build,
    clean,
    compare,
    create,
    doctor,
    export,
    inspect,
    models,
    package,
    predict,
    quantize,
    report,
    sweep,
    validate,
    verify,
)
from attn_export.exporter.commands.console import (
    print_in_any_encoding,
    print_json,
    redirect_stdout_to_devnull,
    stdout,
)
from attn_export.exporter.commands.groups import grouped
from attn_export.exporter.errors import AttnExportError, InputError, OutputError, UsageError
from attn_export.exporter.system.files import check_names

INTERRUPTED, DEFECT = 130, 70
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
GLOBAL_FLAGS = ("--json", "--quiet", "--debug")
# Old names of options, by command; they keep working until 0.3.
RENAMED = {
    "validate": {"--promise": "--require"},
    "bench": {"--own-process": "--isolate"},
    **{command: {"--batch": "--profile-batch"} for command in ("export", "build")},
}


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


for command in (
    *(export.export, models.models, create.create, clean.clean, quantize.quantize, build.build, inspect.inspect),
    *(validate.validate, predict.predict, compare.compare, report.report, bench.bench, sweep.sweep),
    *(package.package, verify.verify, doctor.doctor),
):
    app.command()(grouped(command))


def command_names() -> list[str]:
    """Of all commands."""
    return [info.name or info.callback.__name__ for info in app.registered_commands if info.callback]


def renamed(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command with today's names of options; a note on standard error for each old name."""
    names, words = RENAMED.get(arguments[0] if arguments else "", {}), []
    for word in arguments:
        name, equals, value = word.partition("=")
        if name in names:
            print(f"note: {name} is called {names[name]} now", file=sys.stderr)
        words.append(f"{names.get(name, name)}{equals}{value}")
    return words


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


def print_error(message: str, hint: str, code: int, arguments: Sequence[str]) -> None:
    """An error: in words on standard error, and as the result under ``--json``."""
    from rich.text import Text

    from attn_export.exporter.report.console import PlainConsole, clipped

    message, hint = clipped(message), clipped(hint)
    console = PlainConsole(stderr=True, soft_wrap=True, highlight=False)
    with suppress(OSError):  # standard error may be full, or closed
        # Indented: a name with a line break in it begins no line.
        console.print(Text.assemble(("error: ", "bold red"), message.replace("\n", "\n  ")))
        if hint:
            console.print(Text.assemble(("  → ", "bold cyan"), hint.replace("\n", "\n  ")))
    if "--json" in arguments:
        error = {"message": message, "hint": hint, "exit_code": code}
        from attn_export.exporter.records.document import SCHEMA_VERSION

        print_json({"schema_version": SCHEMA_VERSION, "error": error})


def hint_for_misuse(arguments: Sequence[str]) -> str:
    """What was probably meant: a command, if the first word nearly is one."""
    words = [word for word in arguments if word.isidentifier()]
    near = difflib.get_close_matches(words[0], command_names(), n=1, cutoff=0.7) if words else []
    if near and near[0] not in words:
        return f"Did you mean attn-export {near[0]}?"
    command = f"{words[0]} " if words and words[0] in command_names() and words[0] != "export" else ""
    return f"attn-export {command}--help shows the options."


def print_interrupted(arguments: Sequence[str]) -> None:
    """Say that the work was interrupted."""
    print_error("interrupted; nothing was left half-written", "", INTERRUPTED, arguments)


def run(arguments: Sequence[str], interrupted: Callable[[], bool] = lambda: False) -> int:
    """Run the command line and return the exit code; ``interrupted`` says whether a signal has come."""
    print_in_any_encoding()
    try:
        check_names(arguments)
        code = app(args=renamed(route(arguments)), prog_name="attn-export", standalone_mode=False, obj=tuple(arguments))
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # typer and rich exit where the reader of the result has gone away
        redirect_stdout_to_devnull()
        return 0
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if not interrupted():
            return print_failure(error, arguments)
        code = INTERRUPTED
    if code == INTERRUPTED:
        print_interrupted(arguments)
    return int(code or 0)


def print_failure(error: Exception, arguments: Sequence[str]) -> int:
    """Print an error in words and return its exit code."""
    if "--debug" in arguments and not isinstance(error, typer.TyperException | MemoryError):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, OSError) and error.errno in FULL:
        redirect_stdout_to_devnull()
    message, hint, code = words_of(error, arguments)
    print_error(message, hint, code, arguments)
    return code


# What PyTorch and the dynamic linker say.
NO_MEMORY = ("can't allocate memory", "failed to map segment")


def words_of(error: Exception, arguments: Sequence[str]) -> tuple[str, str, int]:
    """Message, hint and exit code."""
    if isinstance(error, AttnExportError):
        return error.message, error.hint, error.exit_code
    if isinstance(error, typer.TyperException):  # the parser's own: an unknown option, a missing value
        return error.format_message(), hint_for_misuse(arguments), UsageError.exit_code
    full = isinstance(error, OSError) and error.errno == errno.ENOMEM
    if full or isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
        return "there is not enough memory", "Take a smaller input or batch.", OutputError.exit_code
    if isinstance(error, OSError) and error.errno in FULL:  # files say it themselves, so this is standard output
        message = f"the result can't be printed: {os.strerror(error.errno)}"
        return message, "Make room where the output goes.", OutputError.exit_code
    if isinstance(error, OSError | RuntimeError) and (problem := impossible_path(error)):
        return problem, "Name another path.", InputError.exit_code
    report = "This is a defect of attn-export, please report it with the output of --debug."
    return f"{type(error).__name__}: {error}", report, DEFECT


def impossible_path(error: Exception) -> str:
    """The words for a path that no file can have: of thousands of characters, or a link that leads to itself."""
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return f"{error.filename!s:.100} can't be read: {error.strerror}"
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # pathlib's, before Python 3.13
        return f"{error!s:.100}: the link leads to itself"
    return ""


def main() -> NoReturn:
    """The command line in this process; the program is `attn_export.__main__`."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
