"""Reading a pickle without importing or running anything it names.

A pickle is a program: it names functions and classes, and the normal unpickler imports and calls them. torch's
``weights_only`` unpickler knows a list of harmless names and stops at any other. Here every other name is first given
an inert class: calling it makes an object that keeps its state and does nothing. So the tensors of a training
checkpoint that also holds an ``argparse.Namespace``, and of a whole pickled module, are read without the code they
came from.
"""

import pickletools
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from typing_extensions import Self

# No legitimate checkpoint calls these. They wouldn't run here, but such a file is an attack on other readers.
HOSTILE_MODULES = frozenset(
    "__builtin__ asyncio bdb builtins code codeop commands ctypes distutils ftplib http importlib marshal "
    "multiprocessing nt os pdb pickle pip pkgutil platform posix profile pty requests runpy shutil signal site smtplib "
    "socket ssl subprocess sys telnetlib tempfile threading timeit trace urllib venv webbrowser zipimport".split()
)
SHOWN = 6
HARMLESS_BUILTINS = frozenset(
    "bool bytearray bytes complex dict float frozenset getattr int list object range set slice str tuple".split()
)


class Inert:
    """Placeholder for an object whose class was not imported.

    Attributes:
        full_name: of the class, with its module.
        state: the pickled state.
    """

    full_name = ""
    state: Any = None

    def __new__(cls, *_: Any) -> Self:
        """Take any arguments and do nothing with them."""
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def inert_class(full_name: str) -> type[Inert]:
    """A placeholder class for one foreign name; the unpickler looks classes up by name."""
    return type(full_name.rpartition(".")[2], (Inert,), {"full_name": full_name})


def foreign_globals(path: Path) -> list[str]:
    """The names in a checkpoint that aren't on torch's harmless list, in order of appearance.

    Reads the opcodes only. Damage ends the list early and is not an error here; the loader will meet it.
    """
    with path.open("rb") as stream:
        return names_in(stream)


def names_in(stream: IO[bytes]) -> list[str]:
    """`foreign_globals` of an open file."""
    from torch._weights_only_unpickler import _get_allowed_globals

    harmless = _get_allowed_globals()
    return [name for name in dict.fromkeys(_named_globals(stream)) if name not in harmless]


def hostile(names: list[str]) -> list[str]:
    """Those names that only an attack, never a checkpoint, would use."""

    def is_hostile(full_name: str) -> bool:
        root, _, rest = full_name.partition(".")
        if root in ("builtins", "__builtin__"):
            return rest not in HARMLESS_BUILTINS
        return root in HOSTILE_MODULES

    return [name for name in names if is_hostile(name)]


def listed(names: Sequence[str]) -> str:
    """The first names, and the number of further ones."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _named_globals(stream: IO[bytes]) -> Iterator[str]:
    try:
        if zipfile.is_zipfile(stream):
            with zipfile.ZipFile(stream) as archive:
                for entry in archive.namelist():
                    if entry.endswith("/data.pkl"):
                        with archive.open(entry) as part:
                            yield from _globals_in(part)
        else:
            stream.seek(0)
            yield from _globals_in(stream)
    except Exception:  # noqa: BLE001 (its end, or damage: what was found up to here is the answer)
        return


def _globals_in(stream: IO[bytes]) -> Iterator[str]:
    """Names in one stream of pickles, the formats before torch 1.6 having several one after the other; never returns.

    Raises:
        Exception: of any kind, at the end of the stream or where it makes no sense.
    """
    while True:
        strings: list[str] = []  # STACK_GLOBAL takes the two strings pushed last
        memo: dict[int, str] = {}
        memoized = 0
        top: str | None = None  # what lies on the stack, if it is a string
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name == "MEMOIZE":
                memo[memoized] = top or ""
                memoized += 1
                continue
            if name in ("BINPUT", "LONG_BINPUT", "PUT"):
                memo[int(argument or 0)] = top or ""
                continue
            top = None
            if name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".", 1)
            elif name == "STACK_GLOBAL":
                yield ".".join(strings[-2:])
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                top = memo.get(int(argument or 0)) or None
            elif isinstance(argument, str):
                top = argument
            if top is not None:
                strings.append(top)
