"""What the program's two processes need of the system, see ``__main__``."""

import ctypes
import faulthandler
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from attn_export.exporter.errors import AttnExportError, InputError, OutputError
from attn_export.exporter.system.scratch import LEDGER, clear, scratch_folder

FOLDERS, CRASH, FILES = "folders", "crash", "t"
LIBRARIES = {
    "onnxruntime": "ONNX Runtime",
    "onnx": "onnx",
    "torch": "PyTorch",
    "tensorrt_rtx": "TensorRT for RTX",
    "tensorrt": "TensorRT",
}
# What imports of the libraries and their threads need, of `resource`'s limits.
LEAST = {
    "RLIMIT_NOFILE": (64, "open files", "n"),
    "RLIMIT_NPROC": (16, "processes and threads", "u"),
    "RLIMIT_FSIZE": (1, "bytes in a file", "f"),
}
LEAST_ADDRESSES = 2 * 2**30
SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, prctl(2)


def low_limit() -> OutputError | None:
    """The error for a limit under which native libraries hang, or end the process without a word."""
    if sys.platform == "linux":
        import resource

        for name, (least, things, letter) in LEAST.items():
            limit = resource.getrlimit(getattr(resource, name))[0]
            if limit != resource.RLIM_INFINITY and limit < least:
                return OutputError(
                    f"a process may have {limit} {things}, which is too few",
                    hint=f"Allow more with `ulimit -{letter}`.",
                )
    return None


@contextmanager
def private_folder() -> Iterator[Path | None]:
    """A folder of this program in the folder for temporary files; None if none can be made."""
    with ExitStack() as stack:
        folder = None
        with suppress(OSError, OutputError):
            folder = stack.enter_context(scratch_folder(Path(tempfile.gettempdir())))
        yield folder


def settle(folder: Path | None) -> None:
    """Prepare the child: its temporary files, the place of a crash's traceback, and its end with its parent.

    The parent removes the folder.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, signal.SIGTERM)
    if folder is None:
        return
    (folder / FILES).mkdir()
    tempfile.tempdir = None
    os.environ["TMPDIR"] = str(folder / FILES)
    # Its own default asks for the user's name, which an unknown uid without HOME doesn't have.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / FILES / "torchinductor"))
    # Matplotlib's own, where there is no home, is deleted twice, which prints a traceback.
    if not os.access(os.path.expanduser("~"), os.W_OK):  # noqa: PTH111 (which raises for an unknown uid)
        os.environ.setdefault("MPLCONFIGDIR", str(folder / FILES / "matplotlib"))
    os.environ[LEDGER] = str(folder / FOLDERS)
    faulthandler.enable((folder / CRASH).open("w"))  # stays open as long as the process


def clear_after(folder: Path | None) -> None:
    """Clear the scratch folders of a child that died."""
    with suppress(OSError):
        for line in (folder / FOLDERS).read_text(encoding="utf-8").splitlines() if folder else ():
            clear(Path(line))


def dump(folder: Path | None) -> str:
    """The tracebacks that the child left when it crashed, empty if there are none."""
    with suppress(OSError):
        return (folder / CRASH).read_text(encoding="utf-8") if folder else ""
    return ""


def _tight() -> bool:
    """Whether the user's limit of addresses is hardly more than the libraries take themselves."""
    if sys.platform != "linux":
        return False
    import resource

    return 0 <= resource.getrlimit(resource.RLIMIT_AS)[0] < LEAST_ADDRESSES


def death(number: int, folder: Path | None) -> AttnExportError:
    """The error for a child that a signal ended."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if number == signal.SIGKILL:
        return OutputError(
            "the work was killed, as Linux does where memory runs out",
            hint="Take a smaller input or batch; dmesg tells whether it was the memory.",
        )
    if number == signal.SIGABRT and _tight():  # C++ where an allocation fails
        return OutputError("there is not enough memory", hint="Allow more with `ulimit -v`.")
    if number == getattr(signal, "SIGXCPU", None):
        return OutputError(
            f"the work took more processor time than a file of its size gets, or than `ulimit -t` allows ({name})",
            hint="Where does this file come from? From Python there is no limit.",
        )
    if number == getattr(signal, "SIGBUS", None):
        return InputError(
            f"a file changed while it was read ({name})", hint="Let its writer finish, then run the command again."
        )
    imported = re.search(r'File ".*?(?:site|dist)-packages/(\w+)/', dump(folder))
    library = LIBRARIES.get(imported[1], imported[1]) if imported else "a native library"
    return InputError(
        f"{library} crashed ({name}) on what is in the files",
        hint="Nothing was left half-written. --debug shows where; the library's developers may want the file.",
    )
