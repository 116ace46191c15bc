"""The program: a small process that answers for it, and its child, which does the work.

Native libraries parse and run what stands in foreign files. A crash of theirs ends the child, and the parent says so.
The parent takes the signals too, so an interruption ends in one way from the first line to the last.
"""

import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from attn_export.exporter.errors import AttnExportError

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
INTERRUPTED = 130
LINKER_FAILED = 127  # the dynamic linker's exit where it gets no memory
SECONDS_TO_STOP = 10  # native code that runs longer is killed
# ONNX Runtime, from 1.29 on, reports names and hashes of models to Microsoft; MLflow and Hugging Face heed the other.
NO_TELEMETRY = ("ORT_DISABLE_TELEMETRY", "DO_NOT_TRACK")


@dataclass
class Interruption:
    """Raises KeyboardInterrupt at the first signal; later ones don't disturb the clearing up."""

    arrived: bool = False

    def __call__(self, *_: object) -> None:
        """Handle a signal."""
        if not self.arrived:
            self.arrived = True
            raise KeyboardInterrupt


@dataclass
class Worker:
    """The child: asked to stop by the first signal, killed by the second or after `SECONDS_TO_STOP`."""

    pid: int
    asked: bool = False

    def stop(self, *_: object) -> None:
        """Handle a signal."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL if self.asked else signal.SIGTERM)
        self.asked = True
        signal.alarm(SECONDS_TO_STOP)


def main() -> NoReturn:
    """The program. Windows has no fork: the work is done here."""
    open_closed_streams()
    for name in NO_TELEMETRY:
        os.environ.setdefault(name, "1")
    if not hasattr(os, "fork"):
        interruption = Interruption()
        signal.signal(signal.SIGINT, interruption)
        sys.exit(work(interruption))
    _hold_signals(held=True)
    from attn_export.exporter.system.supervision import low_limit, private_folder

    if (error := low_limit()) is not None:
        sys.exit(report_error(error))
    with private_folder() as folder:
        code = supervised(folder)
    sys.exit(code)


def open_closed_streams() -> None:
    """Point standard streams that are closed to the null device, before a result's file gets their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def supervised(folder: Path | None) -> int:
    """Do the work in a child and return the exit code.

    Args:
        folder: of the child's temporary files; None if none can be made.
    """
    parent = os.getpid()
    handled = [n for n in STOPPING if signal.getsignal(n) is not signal.SIG_IGN]  # nohup, and shells' background jobs
    try:
        pid = os.fork()
    except OSError as error:
        from attn_export.exporter.errors import OutputError

        return report_error(OutputError(f"the work can't be started: {error.strerror}", hint="ps shows what runs."))
    if pid == 0:
        sys.exit(work_as_child(parent, folder))
    worker = Worker(pid)
    for number in (*handled, signal.SIGALRM):
        signal.signal(number, worker.stop)
    _hold_signals(held=False)
    _, status = os.waitpid(pid, 0)
    signal.alarm(0)
    _hold_signals(held=True)
    code = os.waitstatus_to_exitcode(status)
    if code == LINKER_FAILED:
        code = -signal.SIGKILL
    return code if code >= 0 else report_death(-code, folder, asked=worker.asked)


def work_as_child(parent: int, folder: Path | None) -> int:
    """Set the child up and do the work.

    Args:
        parent: its process id.
        folder: of this process's temporary files.
    """
    from attn_export.exporter.system.supervision import settle

    interruption = Interruption()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both; the parent passes it on
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, interruption)
    settle(folder)
    if os.getppid() != parent:  # it died before this process could ask to be told
        return INTERRUPTED
    return work(interruption)


def work(interruption: Interruption) -> int:
    """Run the command line and return the exit code; an import that is interrupted isn't a missing library."""
    arguments = sys.argv[1:]
    try:
        _hold_signals(held=False)
        from attn_export.cli import run

        code = run(arguments, interrupted=lambda: interruption.arrived)
        _hold_signals(held=True)
    except BaseException:
        if not interruption.arrived:
            raise
        from attn_export.cli import print_interrupted

        print_interrupted(arguments)
        return INTERRUPTED
    return code


def _hold_signals(*, held: bool) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK if held else signal.SIG_UNBLOCK, STOPPING)


def report_death(number: int, folder: Path | None, *, asked: bool) -> int:
    """Say what ended the child, after clearing up what it can't any more.

    Args:
        number: of the signal that ended it.
        folder: of its temporary files.
        asked: whether it had been asked to stop.
    """
    from attn_export.cli import print_interrupted
    from attn_export.exporter.system.supervision import clear_after, death, dump

    arguments = sys.argv[1:]
    if sys.stderr.isatty():
        print("\x1b[?25h", end="", file=sys.stderr)  # a progress bar hides the cursor
    clear_after(folder)
    if asked:
        print_interrupted(arguments)
        return INTERRUPTED
    if "--debug" in arguments:
        print(dump(folder), file=sys.stderr)
    return report_error(death(number, folder))


def report_error(error: "AttnExportError") -> int:
    """Print an error and return its exit code."""
    from attn_export.cli import print_error

    print_error(error.message, error.hint, error.exit_code, sys.argv[1:])
    return error.exit_code


if __name__ == "__main__":
    main()
